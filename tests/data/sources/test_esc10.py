import collections

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.sources.esc10 import Source
from tests.data.flickr8k_fixture import pack
from tests.data.video_fixture import RATE, sung, write_video

ROWS = (
    ("1-1-A-0.wav", 1, 0, "dog", True),
    ("1-2-A-11.wav", 1, 11, "sea_waves", True),
    ("2-3-A-5.wav", 2, 5, "cat", False),
    ("5-4-A-41.wav", 5, 41, "chainsaw", True),
)


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "esc10"
    for name, *_ in ROWS:
        write_video(root / "audio" / name, sound=sung(5.0), sound_codec="pcm_s16le")
    (root / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    lines += [",".join(map(str, row)) + ",1,A" for row in ROWS]
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return root


def test_labels_folds_and_sound(corpus):
    source = Source(root=str(corpus))
    clips = [source[i] for i in range(len(source))]
    labels = [source.classes["sound"][clip.labels["sound"]] for clip in clips]
    assert labels == ["dog", "sea waves", "chainsaw"]
    assert [clip.group for clip in clips] == ["1", "1", "5"]
    assert all(clip.video is None for clip in clips)
    middle = sung(5.0)[round(1.5 * RATE) : round(3.5 * RATE)]
    np.testing.assert_allclose(clips[0].audio().samples, middle, atol=1e-4)
    assert not source.report


def test_windows_of_a_recording_are_records_with_its_id(corpus, tmp_path):
    for root in (corpus, pack(corpus, tmp_path / "esc10.tar")):
        source = Source(root=str(root), windows=4, seconds=1.0)
        assert len(source) == 12
        windows = [source[i] for i in range(4, 8)]
        assert {clip.clip_id for clip in windows} == {"audio/1-2-A-11.wav"}
        for number, clip in enumerate(windows):
            first = round(4 / 3 * number * RATE)
            expected = sung(5.0)[first : first + RATE]
            np.testing.assert_allclose(clip.audio().samples, expected, atol=0.02)


def test_bad_recordings_and_lines_are_left_out_and_counted(corpus):
    (corpus / "audio" / ROWS[0][0]).write_bytes(b"")
    (corpus / "audio" / ROWS[1][0]).unlink()
    with (corpus / "meta" / "esc50.csv").open("a") as table:
        table.write("5-5-A-7.wav,5,7,unheard_of,True,1,A\n")
    source = Source(root=str(corpus))
    assert len(source) == 1
    assert source.report == {"unreadable_audio": 1, "missing_file": 1, "malformed_line": 1}


def test_wrong_options_are_refused(corpus):
    with pytest.raises(ConfigError, match=r"root='nowhere' does not exist.*esc50\.csv"):
        Source(root="nowhere")
    for key, value, least in (("windows", -1, "at least 0"), ("seconds", 0.0, "above 0")):
        with pytest.raises(ConfigError, match=f"{key}={value} must be {least}"):
            Source(root=str(corpus), **{key: value})


def test_the_real_corpus(shared_data):
    source = Source(root=str(shared_data("esc10.tar")), windows=2)
    assert not source.report
    clips = [source[i] for i in range(len(source))]
    assert collections.Counter(clip.labels["sound"] for clip in clips) == dict.fromkeys(
        range(10), 80
    )
    assert collections.Counter(clip.group for clip in clips) == dict.fromkeys("12345", 160)
    targets = {clip.clip_id.split("-")[-1][:-4]: clip.labels["sound"] for clip in clips}
    names = {target: source.classes["sound"][label] for target, label in targets.items()}
    assert names["0"] == "dog"
    assert names["12"] == "crackling fire"
    assert names["41"] == "chainsaw"
    sounds = [clip.audio() for clip in clips[::40]]
    assert all(len(sound.samples) == 2 * sound.rate for sound in sounds)
    # A bark is shorter than what was recorded.
    assert sum(sound.samples.any() for sound in sounds) >= 15
