import shutil

import pytest

from fgmm.config import ConfigError
from fgmm.data.sources.labelled_folder import Source
from tests.data.corpora_fixture import one_video
from tests.data.video_fixture import sung, write_video

FILES = (
    "cooking/a.mp4",
    "cooking/kitchen 2/b.mp4",
    "cooking/kitchen 2/c.MKV",
    "sewing/d.mp4",
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return one_video(tmp_path_factory.mktemp("corpus") / "original.mp4")


@pytest.fixture
def corpus(original, tmp_path):
    root = tmp_path / "corpus"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original, root / name)
    (root / "cooking" / "notes.txt").write_text("no video")
    (root / "sewing" / ".hidden.mp4").write_text("no video")
    return root


def found(source):
    name = source.classes["label"]
    return {
        c.clip_id: (name[c.labels["label"]], c.group)
        for c in map(source.__getitem__, range(len(source)))
    }


def test_classes_are_folders_and_folders_below_are_groups(corpus):
    source = Source(root=str(corpus))
    assert found(source) == {
        "cooking/a.mp4": ("cooking", ""),
        "cooking/kitchen 2/b.mp4": ("cooking", "cooking/kitchen 2"),
        "cooking/kitchen 2/c.MKV": ("cooking", "cooking/kitchen 2"),
        "sewing/d.mp4": ("sewing", ""),
    }
    assert source[0].video.frames(8, 24).shape == (8, 24, 32, 3)
    assert not source.report


def test_a_split_is_a_folder_and_all_splits_have_the_classes_of_all(corpus, tmp_path):
    root = tmp_path / "splits"
    shutil.move(corpus, root / "train")
    (root / "test" / "sewing").mkdir(parents=True)
    shutil.copy(root / "train" / "sewing" / "d.mp4", root / "test" / "sewing" / "e.mp4")
    source = Source(root=str(root), split="test")
    assert found(source) == {"test/sewing/e.mp4": ("sewing", "")}
    assert source[0].labels == {"label": 1}
    assert len(Source(root=str(root), split="train")) == 4


def test_a_list_of_files(corpus):
    (corpus / "some.txt").write_text("sewing/d.mp4\ncooking/gone.mp4\nsewing\nknitting/x.mp4\n\n")
    source = Source(root=str(corpus), listing="some.txt")
    assert found(source) == {"sewing/d.mp4": ("sewing", "")}
    assert source.classes == {"label": ("cooking", "sewing")}
    assert source.report == {"missing_file": 1, "malformed_line": 2}


def test_a_table(corpus):
    rows = (
        "filename,label,split,group,remark",
        "cooking/a.mp4,by hand,test,x,",
        "cooking/kitchen 2/b.mp4,by hand,train,,",
        "sewing/d.mp4,by machine,train,y,",
        "../a.mp4,by machine,train,y,",
        "sewing/d.mp4,,train,y,",
    )
    (corpus / "clips.csv").write_text("\n".join(rows))
    test = Source(root=str(corpus), listing="clips.csv", split="test")
    assert found(test) == {"cooking/a.mp4": ("by hand", "x")}
    train = Source(root=str(corpus), listing="clips.csv", split="train")
    assert found(train) == {
        "cooking/kitchen 2/b.mp4": ("by hand", ""),
        "sewing/d.mp4": ("by machine", "y"),
    }
    assert train.report == {"malformed_line": 2}
    assert len(Source(root=str(corpus), listing="clips.csv")) == 3


def test_a_file_of_a_table_may_have_several_classes(corpus):
    rows = ("filename,label", "cooking/a.mp4,fire;  by hand", "sewing/d.mp4,fire;fire;")
    (corpus / "several.csv").write_text("\n".join(rows))
    source = Source(root=str(corpus), listing="several.csv", separator=";")
    assert source.classes == {"label": ("by hand", "fire")}
    assert [source[i].labels for i in range(2)] == [{"label": (0, 1)}, {"label": (1,)}]
    raw = source.raw()
    assert [raw[i].labels for i in range(2)] == [{"label": (0, 1)}, {"label": (1,)}]
    with pytest.raises(ConfigError, match=r"separator=';' is of a table's column label"):
        Source(root=str(corpus), separator=";")


def test_files_of_sound(corpus):
    for name in ("bark/1.wav", "meow/2.wav"):
        write_video(corpus / name, sound=sung(1.0), sound_codec="pcm_s16le")
    source = Source(root=str(corpus), modality="audio", seconds=0.5)
    assert found(source) == {"bark/1.wav": ("bark", ""), "meow/2.wav": ("meow", "")}
    assert source[1].video is None
    assert len(source[1].audio().samples) == 8000


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"modality": "text"}, "modality='text' is unknown; allowed: video, audio"),
        ({"split": "dev"}, "has no video of split='dev'; the layout is"),
        ({"modality": "audio"}, "has no audio of split=''"),
        ({"listing": "none.csv"}, "has no readable none.csv"),
        ({"windows": -1}, "windows=-1 must be at least 0"),
    ],
)
def test_wrong_options_are_refused(corpus, options, error):
    with pytest.raises(ConfigError, match=error):
        Source(root=str(corpus), **options)


def test_absolute_paths_below_root_are_taken(corpus):
    names = "".join(f"{corpus / name}\n" for name in FILES[:2])
    (corpus / "train.txt").write_text(f"{names}/elsewhere/cooking/a.mp4\n")
    source = Source(root=str(corpus), listing="train.txt")
    assert set(found(source)) == set(FILES[:2])
    assert source.report == {"malformed_line": 1}
    rows = "".join(f"{corpus / name},x\n" for name in FILES[2:])
    (corpus / "clips.csv").write_text(f"filename,label\n{rows}")
    assert set(found(Source(root=str(corpus), listing="clips.csv"))) == set(FILES[2:])


def test_labels_that_differ_by_white_space_alone_are_one(corpus):
    rows = (
        "cooking/a.mp4,jump rope,train",
        "sewing/d.mp4 , jump\u00a0 rope , train ",
    )
    (corpus / "t.CSV").write_text("filename, label , split\n" + "\n".join(rows) + "\n")
    source = Source(root=str(corpus), listing="t.CSV", split="train")
    assert source.classes == {"label": ("jump rope",)}
    assert found(source) == {
        "cooking/a.mp4": ("jump rope", ""),
        "sewing/d.mp4": ("jump rope", ""),
    }
    (corpus / "sewing ").mkdir()
    shutil.copy(corpus / "sewing" / "d.mp4", corpus / "sewing " / "e.mp4")
    source = Source(root=str(corpus))
    assert source.classes == {"label": ("cooking", "sewing")}
    assert found(source)["sewing /e.mp4"] == ("sewing", "")


def test_files_that_are_listed_again_are_counted(corpus):
    rows = ("cooking/a.mp4,cook", "sewing/d.mp4,sew", "cooking/a.mp4,sew")
    (corpus / "t.csv").write_text("filename,label\n" + "\n".join(rows) + "\n")
    for opened in (True, False):
        source = Source(root=str(corpus), listing="t.csv", opened=opened)
        if opened:
            assert found(source)["cooking/a.mp4"] == ("cook", "")
            assert len(source) == 2
            assert source.report == {"duplicate_id": 1}
        for _ in range(2):
            assert source.raw().report == {"duplicate_id": 1}
