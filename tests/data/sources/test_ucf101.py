import collections
import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data.sources.ucf101 import Source
from tests.data.corpora_fixture import write_ucf101
from tests.data.flickr8k_fixture import pack
from tests.data.video_fixture import number_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_ucf101(tmp_path_factory.mktemp("corpus") / "ucf101")


@pytest.fixture
def own(corpus, tmp_path):
    """A copy of the corpus that a test may damage."""
    return shutil.copytree(corpus, tmp_path / "own")


def clips(source):
    return [source[i] for i in range(len(source))]


def test_the_sides_of_a_split_have_no_group_in_common(corpus):
    for fold, groups in ((1, {"g01", "g02"}), (2, {"g03", "g04"}), (3, {"g05", "g06"})):
        test = clips(Source(root=str(corpus), split="test", fold=fold))
        train = clips(Source(root=str(corpus), split="train", fold=fold))
        assert {clip.group.rpartition("_")[2] for clip in test} == groups
        assert not {clip.group for clip in test} & {clip.group for clip in train}
        assert len(test) == 8
        assert len(test) + len(train) == len({clip.clip_id for clip in test + train}) == 28


def test_labels_are_of_the_list_of_classes_and_its_names_are_words(corpus):
    source = Source(root=str(corpus), windows=2, seconds=0.5)
    assert source.classes == {"action": ("handstand pushups", "yo yo")}
    assert collections.Counter(clip.labels["action"] for clip in clips(source)) == {0: 20, 1: 20}
    first, second, *_ = clips(source)
    assert (
        first.clip_id == second.clip_id == "UCF-101/HandstandPushups/v_HandStandPushups_g03_c01.avi"
    )
    assert first.labels == {"action": 0}
    assert first.group == "v_HandStandPushups_g03"
    assert [number_of(picture) for picture in first.video.frames(2, 16)] == [2, 7]
    assert [number_of(picture) for picture in second.video.frames(2, 16)] == [12, 17]
    assert second.audio() is not None
    assert not source.report


def test_files_may_be_encoded_anew_and_spelt_as_the_class(own):
    for path in sorted(own.glob("UCF-101/*/*.avi")):
        path.rename(own / path.name.replace("HandStand", "Handstand").replace(".avi", ".mp4"))
    source = Source(root=str(own), split="test")
    assert len(source) == 8
    assert not source.report


def test_an_archive_gives_the_clips_of_the_folder(corpus, tmp_path):
    packed = Source(root=str(pack(corpus, tmp_path / "ucf101.tar")), split="test")
    folder = Source(root=str(corpus), split="test")
    assert [c.clip_id for c in clips(packed)] == [c.clip_id for c in clips(folder)]
    assert (packed[0].video.frames(2, 16) == folder[0].video.frames(2, 16)).all()


def test_what_is_missing_or_wrong_is_counted(own):
    (own / "UCF-101" / "YoYo" / "v_YoYo_g01_c01.avi").unlink()
    (own / "UCF-101" / "YoYo" / "v_YoYo_g01_c02.avi").write_bytes(b"")
    with (own / "ucfTrainTestlist" / "testlist01.txt").open("a") as file:
        file.write("Unheard/v_Unheard_g01_c01.avi\nYoYo/../../v_YoYo_up.avi\n")
    source = Source(root=str(own), split="test")
    assert len(source) == 6
    assert source.report == {"missing_file": 1, "unreadable_video": 1, "malformed_line": 2}


def test_wrong_options_are_refused(corpus, own):
    with pytest.raises(ConfigError, match="split='dev' is unknown; allowed: train, test"):
        Source(root=str(corpus), split="dev")
    with pytest.raises(ConfigError, match="fold=4 is unknown; allowed: 1, 2, 3"):
        Source(root=str(corpus), fold=4)
    with pytest.raises(ConfigError, match=r"seconds=0\.0 must be above 0"):
        Source(root=str(corpus), seconds=0.0)
    (own / "ucfTrainTestlist" / "trainlist02.txt").unlink()
    with pytest.raises(ConfigError, match=r"has no trainlist02\.txt; the layout is UCF-101/"):
        Source(root=str(own), fold=2)
