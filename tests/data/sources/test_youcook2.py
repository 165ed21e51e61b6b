import json
import shutil

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.schema import BadInput, Caption
from fgmm.data.sources.youcook2 import Source
from tests.data.corpora_fixture import write_youcook2
from tests.data.video_fixture import number_of, sung

LIST = "youcookii_annotations_trainval.json"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_youcook2(tmp_path_factory.mktemp("corpus") / "youcook2")


def shown(clip, count=4):
    return [number_of(picture) for picture in clip.video.frames(count, 24)]


def test_a_clip_is_a_step_with_its_sentence(corpus):
    source = Source(root=str(corpus), split="train", seconds=0.0)
    clips = [source[i] for i in range(len(source))]
    assert [clip.clip_id for clip in clips] == ["train0_0", "train0_1", "train1_0", "train1_1"]
    assert [clip.group for clip in clips] == ["train0", "train0", "train1", "train1"]
    assert clips[0].captions == (Caption("cut the mkv onion", 0.0, 1.0),)
    assert clips[3].captions == (Caption("fry the webm onion 1", 0.0, 2.0),)
    assert not source.report
    # The whole of a step, from 1 s to 3 s, at 20 pictures a second.
    assert shown(clips[0]) == [2, 7, 12, 17]
    assert shown(clips[1]) == [25, 35, 45, 55]
    sound = clips[1].audio()
    assert len(sound.samples) == 2 * sound.rate
    np.testing.assert_allclose(sound.samples[4096:-4096], sung(3.0)[20_096:-4096], atol=0.03)


def test_a_window_is_in_the_middle_of_a_step_or_drawn(corpus):
    source = Source(root=str(corpus), split="train", seconds=1.0)
    assert shown(source[0], 2) == [5, 15]
    assert shown(source[1], 2) == [35, 45]
    drawn = [shown(source.draw(1, np.random.default_rng(seed)), 2) for seed in range(8)]
    assert len({first for first, _ in drawn}) > 3
    assert all(first >= 24 and last <= 56 and last - first in (9, 10, 11) for first, last in drawn)
    assert len(source[1].audio().samples) == 16_000


def test_a_clip_may_be_a_whole_video_with_all_its_sentences(corpus):
    source = Source(root=str(corpus), split="train", unit="video", seconds=0.0)
    clips = [source[i] for i in range(len(source))]
    assert [clip.clip_id for clip in clips] == ["train0", "train1"]
    assert clips[1].captions == (Caption("cut the webm onion. fry the webm onion 1"),)
    # Pictures from all of its three seconds, at 20 a second.
    assert shown(clips[0], 3) == [10, 30, 50]
    assert Source(root=str(corpus), unit="video").report == {"missing_file": 1}


def test_steps_of_vanished_videos_are_counted(corpus):
    source = Source(root=str(corpus))
    assert [source[i].clip_id for i in range(len(source))] == ["valid0_0", "valid0_1"]
    assert source.report == {"missing_file": 2}


def test_broken_steps_are_counted_and_broken_files_say_so_when_read(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    content = json.loads((own / LIST).read_text())
    content["database"]["valid0"]["annotations"] += [
        {"id": 2, "segment": [3, 2], "sentence": "backward"},
        {"id": 3, "sentence": "no time"},
        {"id": 4, "segment": [0, 1], "sentence": " "},
    ]
    (own / LIST).write_text(json.dumps(content))
    (own / "raw_videos" / "validation" / "113" / "valid0.mkv").write_bytes(b"no video")
    source = Source(root=str(own))
    assert len(source) == 2
    assert source.report == {"missing_file": 2, "malformed_line": 2, "empty_caption": 1}
    with pytest.raises(BadInput, match="unreadable_video"):
        source[0].video.frames(4, 24)


def test_wrong_options_are_refused(corpus, tmp_path):
    for options, error in (
        ({"split": "test"}, "split='test' is unknown; allowed: train, validation"),
        ({"seconds": -1.0}, r"seconds=-1\.0 must be at least 0"),
    ):
        with pytest.raises(ConfigError, match=error):
            Source(root=str(corpus), **options)
    with pytest.raises(ConfigError, match=f"has no {LIST}; the layout is"):
        Source(root=str(tmp_path))
    for text, error in (("{", "is no JSON"), ('{"database": {"a": 1}}', "is not of the form")):
        (tmp_path / LIST).write_text(text)
        with pytest.raises(ConfigError, match=error):
            Source(root=str(tmp_path))
