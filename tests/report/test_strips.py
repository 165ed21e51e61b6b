import base64
import io

import numpy as np
import pytest
from PIL import Image

from fgmm.report import pages, strips

GREY = 100


def sheet(blocks, frames=4, size=32, **changes):
    options = {
        "heading": ("title", "“a caption that costs $5 and <6>”", "In the picture: attention"),
        "frames": np.full((frames, size, size, 3), GREY, np.uint8),
        "frame_labels": [f"frame {i + 1}" for i in range(frames) if frames > 1],
        "spectrogram": None,
        "sound_seconds": 2.0,
        "mel_ticks": [],
        "blocks": blocks,
    }
    return strips.Sheet(**{**options, **changes})


def pixels(address):
    data = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def yellowness(picture):
    return picture[..., 0] - picture[..., 2]


def test_a_map_is_bright_where_it_is_high():
    heat = np.zeros((4, 4, 4), np.float32)
    heat[2, 1, 3] = 1
    drawing = sheet([strips.Block("the clip"), strips.Block("a phrase", "details", map=heat)])
    drawn = strips.drawn(drawing)
    assert (drawn.height, drawn.width) == (128, 128)
    clip, phrase = (
        pixels(strip.picture).reshape(128, 4, 128, 3).swapaxes(0, 1) for strip in drawn.strips
    )
    assert np.abs(clip - GREY).max() < 10
    warm = yellowness(phrase)
    frame, row, column = np.unravel_index(warm.argmax(), warm.shape)
    assert frame == 2
    assert row == pytest.approx(1.5 / 4 * 128, abs=16)
    assert column == pytest.approx(3.5 / 4 * 128, abs=16)
    assert warm[[0, 1]].max() < 20
    assert warm.max() > 100
    assert [frame.left for frame in drawn.strips[1].frames] == [0, 128, 256, 384]


def test_a_box_that_wraps_comes_in_on_both_sides_of_its_frame_only():
    box = strips.Box(frame=1, top=0.25, left=0.75, bottom=0.75, right=1.25, active=False)
    (strip,) = strips.drawn(sheet([strips.Block("a phrase", boxes=[box])])).strips
    assert [len(frame.outlines) for frame in strip.frames] == [0, 2, 0, 0]
    assert strip.frames[1].outlines == [
        strips.Outline(-0.25, 0.25, 0.5, 0.5, False),
        strips.Outline(0.75, 0.25, 0.5, 0.5, False),
    ]


def test_the_peak_is_in_the_frames_of_its_cell():
    peak = strips.Peak(frames=(2, 3), row=0.5, column=0.25, hit=True)
    (strip,) = strips.drawn(sheet([strips.Block("a phrase", peak=peak)])).strips
    assert [frame.peak for frame in strip.frames] == [None, None, (0.25, 0.5), (0.25, 0.5)]


def test_sound_has_time_to_the_right_and_frequency_upwards():
    heat = np.zeros((5, 4), np.float32)
    heat[4, 0] = 1  # the end, low
    block = strips.Block("a phrase", sound_map=heat, has_sound=True, has_frames=False)
    drawing = sheet(
        [block],
        spectrogram=np.zeros((40, 16), np.float32),
        mel_ticks=[(3.5, "1 kHz"), (7.5, "2 kHz")],
    )
    drawn = strips.drawn(drawing)
    (strip,) = drawn.strips
    assert (strip.picture, strip.frames) == ("", [])
    picture = pixels(strip.sound)
    warm = np.argwhere(yellowness(picture) > 80)
    assert warm[:, 0].min() > 0.6 * picture.shape[0]
    assert warm[:, 1].min() > 0.6 * picture.shape[1]
    assert drawn.pitches == [(0.75, "1 kHz"), (0.5, "2 kHz")]
    assert drawn.seconds == [(0.0, "0.0 s"), (0.5, "1.0 s"), (1.0, "2.0 s")]


def test_large_noisy_frames_stay_a_small_page():
    rng = np.random.default_rng(0)
    frames = rng.integers(60, 140, size=(8, 300, 300, 3)).astype(np.uint8)
    drawn = strips.drawn(
        sheet([strips.Block("the clip")], frames=8, size=300)._replace(frames=frames)
    )
    assert (drawn.height, drawn.width) == (224, 224)
    assert len(drawn.strips[0].picture) < 300_000


def test_text_is_text():
    peak = strips.Peak(frames=(0,), row=0.5, column=0.25, hit=False)
    box = strips.Box(frame=0, top=0.25, left=0.25, bottom=0.75, right=0.5, active=False)
    blocks = [
        strips.Block("the clip"),
        strips.Block("a <phrase>", "weight 1", peak=peak, boxes=[box]),
    ]
    page = pages.render("alignment.html", title="t", sheets=[strips.drawn(sheet(blocks))])
    assert "“a caption that costs $5 and &lt;6&gt;”" in page
    assert "a &lt;phrase&gt;" in page
    assert page.count("frame 1") == 1
    assert page.count("<use ") == 8
    assert page.count("peak miss") == 1
    assert page.count("box idle") == 1
    assert 'src="http' not in page
