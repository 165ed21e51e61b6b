import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data.sources.hmdb51 import Source
from tests.data.corpora_fixture import write_hmdb51


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_hmdb51(tmp_path_factory.mktemp("corpus") / "hmdb51")


def clips(source):
    return [source[i] for i in range(len(source))]


def test_marks_say_which_clips_are_trained_on_tested_or_left(corpus):
    for fold in (1, 2, 3):
        test = clips(Source(root=str(corpus), split="test", fold=fold))
        train = clips(Source(root=str(corpus), split="train", fold=fold))
        assert (len(test), len(train)) == (2 * 2 * 3, 2 * 5 * 2)
        assert not {clip.clip_id for clip in test} & {clip.clip_id for clip in train}
        assert not any(clip.clip_id.endswith("_2.avi") for clip in train)
        videos = {clip.clip_id.split("#")[1][0] for clip in test}
        assert videos == {str(2 * fold - 2), str(2 * fold - 1)}


def test_labels_and_groups(corpus):
    source = Source(root=str(corpus))
    assert source.classes == {"action": ("brush hair", "cartwheel")}
    assert [clip.labels["action"] for clip in clips(source)] == [0] * 10 + [1] * 10
    assert source[0].clip_id == "brush_hair/(Rad)#2&_die;Bank!_brush_hair_f_cm_np1_le_med_0.avi"
    assert source[0].group == source[1].group == "train/brush_hair/(Rad)#2&_die;Bank!"
    assert len({clip.group for clip in clips(source)}) == 10
    assert source[0].video.frames(8, 24).shape == (8, 24, 32, 3)
    assert not source.report


def test_folders_above_do_not_matter(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own" / "hmdb51_org")
    (own / "testTrainMulti_7030_splits").rename(tmp_path / "own" / "test_train_splits")
    source = Source(root=str(tmp_path / "own"), split="test")
    assert len(source) == 12
    assert source[0].clip_id.startswith("hmdb51_org/brush_hair/")


def test_what_is_missing_or_wrong_is_counted(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    next((own / "cartwheel").glob("*#0*")).unlink()
    with (own / "testTrainMulti_7030_splits" / "cartwheel_test_split1.txt").open("a") as file:
        file.write("no_mark.avi\nwrong_mark.avi 3\n")
    source = Source(root=str(own), split="test")
    assert len(source) == 11
    assert source.report == {"missing_file": 1, "malformed_line": 2}


def test_wrong_options_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match="fold=0 is unknown"):
        Source(root=str(corpus), fold=0)
    with pytest.raises(ConfigError, match=r"has no lists of fold 1; the layout is <class>/\*\.avi"):
        Source(root=str(tmp_path))
