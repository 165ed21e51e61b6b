import json
import pickle
import sys
import types

import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.preparation import raw
from fgmm.data.schema import Caption
from fgmm.data.sources.hugging_face import Source
from tests.data.pairs_fixture import picture, sound, write_saved

FEATURES = {
    "image": {"_type": "Image"},
    "caption": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "label": {"names": ["blue", "red"], "_type": "ClassLabel"},
}


def rows_of(count):
    return [
        {
            "image": {"bytes": picture("red" if i % 2 else "blue"), "path": None},
            "caption": [f"field {i}", "a <b>field</b>"],
            "label": i % 2,
        }
        for i in range(count)
    ]


@pytest.fixture
def saved(tmp_path):
    """Splits of 11 rows in two files, and of two rows."""
    root = tmp_path / "saved"
    write_saved(root / "train", rows_of(11), FEATURES, files=2)
    write_saved(root / "test", rows_of(2), FEATURES)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return root


def test_rows_of_all_files(saved):
    source = pickle.loads(pickle.dumps(Source(root=str(saved), label="label")))
    clips = [source[i] for i in range(len(source))]
    assert [clip.clip_id for clip in clips] == [f"train/{i}" for i in range(11)]
    assert clips[7].captions == (Caption("field 7"), Caption("a field"))
    assert [clip.video for clip in clips[5:7]] == [picture("red"), picture("blue")]
    assert [clip.labels["label"] for clip in clips] == [i % 2 for i in range(11)]
    assert source.classes == {"label": ("blue", "red")}
    assert source[-1].captions == clips[10].captions
    assert source.report == {}


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("test", range(2)),
        ("train[:90%]", range(10)),
        ("train[90%:]", range(10, 11)),
        ("train[3:5]", range(3, 5)),
        ("train[9:99]", range(9, 11)),
    ],
)
def test_parts_of_splits(saved, split, rows):
    source = Source(root=str(saved), split=split)
    said = [source[i].captions[0].text for i in range(len(source))]
    assert said == [f"field {i}" for i in rows]


def test_paths_sounds_and_rows_without(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a.jpg").write_bytes(picture("red"))
    rows = [
        {"file": {"bytes": None, "path": str(tmp_path / "kept" / "a.jpg")}, "text": "a"},
        {"file": {"bytes": sound(), "path": "b.wav"}, "text": " "},
        {"file": None, "text": None},
    ]
    root = write_saved(tmp_path / "one", rows, {})
    options = {"media": "file", "caption": "text", "seconds": 1.0}
    a, b, c = Source(root=str(root), folder=str(tmp_path / "kept"), **options)
    assert a.video == picture("red")
    assert b.video is None
    assert b.problems == ("empty_caption",)
    assert len(b.audio().samples) == 16_000
    assert c.captions == ()
    outside = Source(root=str(root), **options)[0].video
    assert outside.reason == "missing_file"


def test_recordings_as_they_lie(saved):
    chosen = raw.choose("hugging_face:label=label", raw=True)
    assert raw.splits(chosen, str(saved)) == ("train", "test")
    found = raw.open_raw(chosen, str(saved), "test")
    assert list(found.names) == ["test/0", "test/1"]
    assert found[1][1:3] == (picture("red"), "image")
    assert found[1].labels == {"label": 1}
    assert found.classes == {"label": ("blue", "red")}


def test_a_changed_dataset_is_noticed(saved, tmp_path):
    source = Source(root=str(saved), split="test")
    rows = rows_of(2)
    rows[1]["caption"] = ["FIELD 1", "a <b>field</b>"]
    write_saved(tmp_path / "again", rows, FEATURES)
    file = "data-00000-of-00001.arrow"
    (tmp_path / "again" / file).replace(saved / "test" / file)
    changed = Source(root=str(saved), split="test")
    said = fingerprint.difference(source.fingerprint(), changed.fingerprint())
    assert said == "2 clips then and now, but captions have changed"
    # A process that comes to the file later finds another one.
    clip = pickle.loads(pickle.dumps(Source(root=str(saved)))), pickle.dumps(source)
    assert pickle.loads(clip[1])[0].problems == ("unreadable_record",)
    assert clip[0][0].problems == ()


def test_by_name_the_package_finds_the_files(saved, monkeypatch):
    asked = []

    class Loaded:
        cache_files = tuple(
            {"filename": str(path)} for path in sorted((saved / "train").glob("*.arrow"))
        )
        features = types.SimpleNamespace(to_dict=lambda: FEATURES)

        def __len__(self):
            return 11

    package = types.ModuleType("datasets")
    package.load_dataset = lambda *names, **options: asked.append((names, options)) or Loaded()
    package.get_dataset_split_names = lambda name: ["train", "test"]
    monkeypatch.setitem(sys.modules, "datasets", package)
    source = Source(root="who/what", split="train[5:]", label="label", configuration="small")
    assert asked == [(("who/what", "small"), {"split": "train"})]
    assert len(source) == 6
    assert source[0].captions[0].text == "field 5"
    assert raw.splits(raw.choose("hugging_face", raw=True), "who/what") == ("train", "test")
    monkeypatch.setattr(Loaded, "__len__", lambda self: 5)
    with pytest.raises(ConfigError, match="its files have 11 rows, the split 5; save it with"):
        Source(root="who/what")
    package.load_dataset = lambda *_, **__: 1 / 0
    with pytest.raises(ConfigError, match=r"cannot load it \(ZeroDivisionError: division by zero"):
        Source(root="who/what")


def test_a_class_below_0_is_no_label(tmp_path):
    rows = [{**row, "label": -1} for row in rows_of(1)]
    source = Source(root=str(write_saved(tmp_path / "one", rows, FEATURES)), label="label")
    assert source[0].labels == {}
    assert source.raw()[0].labels == {}


def test_what_the_package_says_of_splits_is_one_line(monkeypatch):
    def several(name):
        raise ValueError("Config name is missing.\nPlease pick one: ['small', 'large']")

    package = types.SimpleNamespace(get_dataset_split_names=several)
    monkeypatch.setitem(sys.modules, "datasets", package)
    said = r"cannot list its splits \(ValueError: Config .*\. Please .*\); name them with --splits"
    with pytest.raises(ConfigError, match=said):
        raw.splits(raw.choose("hugging_face", raw=True), "who/what")


def test_a_folder_has_no_configuration(saved):
    with pytest.raises(ConfigError, match=r"configuration='small' is of .*; leave it out"):
        Source(root=str(saved), configuration="small")


def test_without_the_package_a_name_does_not_exist(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"'who/what' does not exist; .* 'fgmm\[datasets\]'"):
        Source(root="who/what")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "val"}, "split='val' is unknown to .*; allowed: train, test"),
        ({"split": "train[a:b]"}, r"must be a name, or a part such as train\[:90%\]"),
        ({"split": "train[11:]"}, r"has no row in split='train\[11:\]'"),
        ({"media": "img"}, "has no column 'img'; it has image, caption, label"),
        ({"caption": "label"}, "column 'label' is of type int64; caption must be string, or a"),
        ({"media": "caption"}, "column 'caption' is of type list.*; media must be string"),
        ({"label": "caption"}, "label='caption' is no column of class labels of .* allowed: label"),
    ],
)
def test_wrong_options(saved, options, said):
    with pytest.raises(ConfigError, match=said):
        Source(root=str(saved), **options)


def test_damaged_folders_are_refused(saved):
    single = saved / "test"
    with pytest.raises(ConfigError, match="a folder of one split has train alone"):
        Source(root=str(single), split="test")
    assert len(Source(root=str(single))) == 2
    data = single / "data-00000-of-00001.arrow"
    data.write_bytes(data.read_bytes()[:-300])
    with pytest.raises(ConfigError, match=r"data-00000-of-00001.arrow .* save it again"):
        Source(root=str(single))
    state = json.loads((single / "state.json").read_text())
    (single / "state.json").write_text(json.dumps({**state, "_indices_files": [{"filename": "x"}]}))
    with pytest.raises(ConfigError, match=r"call flatten_indices\(\) before save_to_disk"):
        Source(root=str(single))
    (single / "state.json").write_text("{")
    with pytest.raises(ConfigError, match=r"state.json' cannot be read"):
        Source(root=str(single))
    (single / "state.json").unlink()
    with pytest.raises(ConfigError, match=r"has no state.json; give a folder that save_to_disk"):
        Source(root=str(single))
    (saved / "dataset_dict.json").write_text('{"splits": 3}')
    with pytest.raises(ConfigError, match="is not of the form"):
        Source(root=str(saved))
