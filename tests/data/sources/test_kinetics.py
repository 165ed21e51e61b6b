import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data.sources.kinetics import Source
from tests.data.corpora_fixture import KINETICS, write_kinetics


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_kinetics(tmp_path_factory.mktemp("corpus") / "kinetics")


def clips(source):
    return [source[i] for i in range(len(source))]


@pytest.mark.parametrize(
    ("split", "first"),
    [
        ("train", "train/abseiling/-train_a000000_000000_000010.mp4"),
        ("validation", "val/-val_a000000_000000_000010.mp4"),
    ],
)
def test_clips_are_found_in_folders_of_any_names_and_vanished_ones_counted(corpus, split, first):
    source = Source(root=str(corpus), split=split)
    assert source.classes == {"action": KINETICS}
    assert source[0].clip_id == first
    assert [clip.labels["action"] for clip in clips(source)] == [0] * 6 + [1] * 6
    assert len({clip.group for clip in clips(source)}) == 12
    assert source[0].group == f"{split}/{first.rpartition('/')[2][:-18]}"
    assert source[0].video.frames(8, 24).shape == (8, 24, 32, 3)
    assert source.report == {"missing_file": 2}


def test_classes_are_those_of_all_tables_so_that_splits_agree(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    (own / "validate.csv").rename(own / "val.csv")
    lines = (own / "val.csv").read_text().splitlines()
    kept = [line for line in lines if "abseiling" not in line]
    (own / "val.csv").write_text("\n".join([*kept, "", "juggling,abc,x,10,val", ",abc,0,10,val"]))
    # The test part was first published without labels.
    (own / "test.csv").write_text("youtube_id,time_start,time_end,split\nabc,0,10,test\n")
    source = Source(root=str(own), split="validation")
    assert source.classes == {"action": ("abseiling", "juggling", "playing guitar")}
    assert {clip.labels["action"] for clip in clips(source)} == {2}
    assert source.report == {"missing_file": 1, "malformed_line": 2}
    assert Source(root=str(own)).classes == source.classes
    with pytest.raises(ConfigError, match=r"test\.csv has no column 'label'"):
        Source(root=str(own), split="test")


def test_a_table_of_another_name(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    (own / "lists").mkdir()
    (own / "validate.csv").rename(own / "lists" / "mini.csv")
    with pytest.raises(ConfigError, match=r"has no validate\.csv; the layout is train\.csv"):
        Source(root=str(own), split="validation")
    assert len(Source(root=str(own), split="validation", table="lists/mini.csv")) == 12


def test_wrong_options_are_refused(corpus):
    with pytest.raises(ConfigError, match="split='val' is unknown; allowed: train, validation"):
        Source(root=str(corpus), split="val")
    with pytest.raises(ConfigError, match="windows=-1 must be at least 0"):
        Source(root=str(corpus), windows=-1)


def test_a_table_that_is_no_csv_is_refused_with_its_line(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    with open(own / "train.csv", "a") as file:
        file.write("x" * 200_000 + ",a,0,10,train\n")
    with pytest.raises(ConfigError, match=r"train\.csv, line \d+, is no CSV \(field larger"):
        Source(root=str(own))


def test_a_class_whose_rows_have_no_times_counts_for_every_split(corpus, tmp_path):
    own = shutil.copytree(corpus, tmp_path / "own")
    with (own / "train.csv").open("a") as file:
        file.write("abacus,abc,,,train\n")
    splits = [Source(root=str(own), split=split) for split in ("train", "validation")]
    assert splits[0].classes == splits[1].classes == {"action": ("abacus", *KINETICS)}
    assert splits[0].report["malformed_line"] == 1
