import numpy as np
import pytest
from PIL import Image

from fgmm.report import strips

GREY = 100


def sheet(
    blocks, frames=4, size=32, heading=("title", "a caption that costs $5 and $6"), **changes
):
    options = {
        "heading": heading,
        "frames": np.full((frames, size, size, 3), GREY, np.uint8),
        "frame_labels": [f"frame {i + 1}" for i in range(frames) if frames > 1],
        "spectrogram": None,
        "sound_seconds": 2.0,
        "mel_ticks": [],
        "blocks": blocks,
    }
    return strips.Sheet(**{**options, **changes})


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def strip_of(drawn, layout, block):
    """The frames of a strip: [T, height, width, 3]."""
    x, y = layout.strips[block]
    height, width = layout.frame
    step = width + 3
    count = 4
    return np.stack([drawn[y : y + height, x + i * step :][:, :width] for i in range(count)])


def blue(picture):
    return (picture[..., 2] > 180) & (picture[..., 0] < 140) & (picture[..., 1] > 150)


def yellowness(picture):
    return picture[..., 0] - picture[..., 2]


def test_a_map_is_bright_where_it_is_high(tmp_path):
    heat = np.zeros((4, 4, 4), np.float32)
    heat[2, 1, 3] = 1
    drawing = sheet([strips.Block("the clip"), strips.Block("a phrase", "details", map=heat)])
    strips.draw(drawing, tmp_path / "x.png")
    layout = strips._Layout(drawing)
    drawn = pixels(tmp_path / "x.png")
    assert drawn.shape == (layout.height, layout.width, 3)
    clip, phrase = strip_of(drawn, layout, 0), strip_of(drawn, layout, 1)
    assert np.abs(clip - GREY).max() < 10
    warm = yellowness(phrase)
    height, width = layout.frame
    frame, row, column = np.unravel_index(warm.argmax(), warm.shape)
    assert frame == 2
    assert row == pytest.approx(1.5 / 4 * height, abs=height / 16)
    assert column == pytest.approx(3.5 / 4 * width, abs=width / 8)
    assert warm[[0, 1, 3]].max() < 10
    assert warm.max() > 100


def test_a_box_that_wraps_is_drawn_on_both_sides_of_its_frame_only(tmp_path):
    box = strips.Box(frame=1, top=0.25, left=0.75, bottom=0.75, right=1.25, active=True)
    drawing = sheet([strips.Block("the clip"), strips.Block("a phrase", "details", boxes=[box])])
    strips.draw(drawing, tmp_path / "x.png")
    layout = strips._Layout(drawing)
    lines = blue(strip_of(pixels(tmp_path / "x.png"), layout, 1))
    assert not lines[[0, 2, 3]].any()
    height, width = layout.frame
    rows, columns = np.nonzero(lines[1])
    assert rows.min() == pytest.approx(0.25 * height, abs=2)
    assert rows.max() == pytest.approx(0.75 * height, abs=2)
    assert not ((columns > 0.25 * width + 2) & (columns < 0.75 * width - 2)).any()
    # Both upright edges, one on either side.
    for edge in (0.25, 0.75):
        at = np.abs(columns - edge * width) <= 2
        assert at.sum() > 0.4 * height


def test_a_box_in_a_frame_where_the_phrase_is_not_true_is_dashed(tmp_path):
    active, idle = (strips.Box(i, 0.25, 0.25, 0.75, 0.75, active=i == 0) for i in range(2))
    drawing = sheet([strips.Block("the clip", boxes=[active, idle])])
    strips.draw(drawing, tmp_path / "x.png")
    lines = blue(strip_of(pixels(tmp_path / "x.png"), strips._Layout(drawing), 0))
    assert 0 < lines[1].sum() < 0.8 * lines[0].sum()


@pytest.mark.parametrize(("hit", "channel"), [(True, 1), (False, 0)])
def test_the_peak_is_green_or_red(tmp_path, hit, channel):
    peak = strips.Peak(frames=(2, 3), row=0.5, column=0.5, hit=hit)
    drawing = sheet([strips.Block("the clip", peak=peak)])
    strips.draw(drawing, tmp_path / "x.png")
    layout = strips._Layout(drawing)
    strip = strip_of(pixels(tmp_path / "x.png"), layout, 0)
    height, width = layout.frame
    middle = strip[:, height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3]
    lead = middle[..., channel] - middle[..., 1 - channel]
    assert (lead.max(axis=(1, 2)) > 80).tolist() == [False, False, True, True]


def test_sound_has_time_to_the_right_and_frequency_upwards(tmp_path):
    spectrogram = np.zeros((40, 16), np.float32)
    heat = np.zeros((5, 4), np.float32)
    heat[4, 0] = 1  # the end, low
    drawing = sheet(
        [
            strips.Block("the clip", has_sound=True),
            strips.Block("a phrase", sound_map=heat, has_sound=True, has_frames=False),
        ],
        spectrogram=spectrogram,
        mel_ticks=[(3.0, "1 kHz"), (9.0, "2 kHz")],
    )
    strips.draw(drawing, tmp_path / "x.png")
    layout = strips._Layout(drawing)
    x, y = layout.strips[1]
    part = pixels(tmp_path / "x.png")[y : y + layout.frame[0], x + layout.sound_left :]
    warm = np.argwhere(yellowness(part) > 80)
    assert warm[:, 0].min() > 0.6 * layout.frame[0]
    assert warm[:, 1].min() > 0.6 * part.shape[1]


def test_still_pictures_stand_side_by_side(tmp_path):
    blocks = [strips.Block(f"phrase {i}", "details " * 9) for i in range(7)]
    drawing = sheet(blocks, frames=1, size=96)
    layout = strips._Layout(drawing)
    assert len({x for x, _ in layout.strips}) > 3
    assert len({y for _, y in layout.strips}) < 7
    strips.draw(drawing, tmp_path / "x.png")
    assert pixels(tmp_path / "x.png").shape[1] <= 1300


def test_large_noisy_frames_stay_a_small_file(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(60, 140, size=(8, 224, 224, 3)).astype(np.uint8)
    heat = rng.random((8, 7, 7)).astype(np.float32)
    blocks = [strips.Block("the clip"), *[strips.Block(f"{i}", map=heat) for i in range(4)]]
    drawing = sheet(blocks, frames=8, size=224)._replace(frames=frames)
    strips.draw(drawing, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size < 600_000
    assert pixels(tmp_path / "x.png").shape[1] <= 1300
