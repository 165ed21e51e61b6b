"""Corpora with labels and descriptions, prepared and read back with all that is known of them."""

import importlib
import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.records import SEVERAL
from fgmm.data.preparation.task import open_task
from fgmm.data.schema import Caption
from fgmm.data.sources import prepared
from fgmm.experiment import build as experiments
from tests.data import corpora_fixture
from tests.data.test_prepare import written
from tests.shrunken import shrunken

FIXTURES = ("ucf101", "hmdb51", "kinetics", "esc50", "youcook2", "msr_vtt")
WINDOWS = {"windows": 2, "seconds": 0.5}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The corpora in their official layouts, and the same as ``labelled_folder`` reads it."""
    folder = tmp_path_factory.mktemp("corpora")
    roots = {name: getattr(corpora_fixture, f"write_{name}")(folder / name) for name in FIXTURES}
    return roots | {"esc10": roots["esc50"], "labelled_folder": roots["ucf101"] / "UCF-101"}


@pytest.fixture(scope="module")
def prepare(roots, tmp_path_factory):
    """``prepare(source, splits)`` is the folder of it and the reports of its splits."""

    def run(source, splits=(), root=None):
        output = tmp_path_factory.mktemp("prepared")
        root = root or roots[source.partition(":")[0]]
        task = open_task(source, str(root), output, splits=splits, encoding=Encoding())
        return output, written(task)

    return run


@pytest.mark.parametrize(
    ("name", "options", "splits"),
    [
        ("ucf101", {"fold": 2}, ("train", "test")),
        ("hmdb51", {"fold": 1}, ("train", "test")),
        ("kinetics", {}, ("train", "validation")),
        ("esc50", {}, ("whole",)),
        ("esc10", {}, ("whole",)),
        ("labelled_folder", {}, ("whole",)),
    ],
)
def test_recordings_keep_labels_groups_and_classes(roots, prepare, name, options, splits):
    given = ",".join(f"{key}={value}" for key, value in options.items())
    folder, reports = prepare(f"{name}:{given}")
    assert tuple(reports) == splits
    for split in splits:
        named = {} if split == "whole" else {"split": split}
        entry = {"name": name, "root": str(roots[name]), **options, **named, **WINDOWS}
        files = components.build("data.sources", entry, key="source")
        read = prepared.Source(root=str(folder), split=split, **WINDOWS)
        assert read.classes == files.classes
        assert len(read) == len(files) == 2 * reports[split].kept
        for before, after in zip(files, read, strict=True):
            for of in ("clip_id", "labels", "group", "captions"):
                assert getattr(after, of) == getattr(before, of)
        for index in (0, len(read) - 1):
            before, after = files[index], read[index]
            if name.startswith("esc"):
                assert after.video is None
            else:
                shown = [clip.video.frames(4, 24) for clip in (before, after)]
                np.testing.assert_array_equal(*shown)
            np.testing.assert_array_equal(after.audio().samples, before.audio().samples)


def test_others_read_the_names_of_classes(prepare):
    folder, _ = prepare("ucf101", ["test"])
    builder = tfds.builder_from_directory(folder)
    assert builder.info.metadata["classes"] == {"action": ["handstand pushups", "yo yo"]}
    labels = [record["labels"]["value"][0] for record in builder.as_data_source("test")]
    assert labels == [0] * 4 + [1] * 4


def test_what_is_gone_is_counted(prepare):
    _, reports = prepare("kinetics", ["train"])
    assert reports["train"].skipped == {"missing_file": 2}
    assert reports["train"].kept == 12


def test_an_archive_is_prepared_as_it_is(roots, prepare, tmp_path):
    archive = tmp_path / "esc.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(roots["esc50"], "ESC-50-master")
    folder, reports = prepare("esc10", root=archive)
    assert reports["whole"].kept == 15
    before = (roots["esc50"] / "audio" / "1-1000-A-0.wav").read_bytes()
    record = next(iter(tfds.builder_from_directory(folder).as_data_source("whole")))
    assert record["media"] == before


def test_sentences_of_described_videos_keep_their_times(prepare):
    folder, reports = prepare("youcook2")
    assert {split: report.skipped for split, report in reports.items()} == {
        "train": {},
        "validation": {"missing_file": 1},
    }
    read = prepared.Source(root=str(folder), split="train", candidates=2, windows=1, seconds=9.0)
    assert [clip.captions for clip in read] == [
        (Caption(f"cut the {kind} onion", 0.0, 1.0), Caption(f"fry the {kind} onion {i}", 1.0, 3.0))
        for i, kind in enumerate(("mkv", "webm"))
    ]
    folder, reports = prepare("msr_vtt")
    assert set(reports) == {"train", "validate", "test"}
    clip = prepared.Source(root=str(folder), split="train", seconds=0.5)[1]
    # The sentences are of the whole video, so the window is in its middle.
    assert [caption.text for caption in clip.captions] == ["a man of video1", "a picture of video1"]
    assert clip.video.frames(4, 24).std() > 10
    asked, reports = prepare("msr_vtt", ["train_9k", "test_1k"])
    assert [report.kept for report in reports.values()] == [4, 4]
    (said,) = prepared.Source(root=str(asked), split="test_1k")[0].captions
    assert said.text == "number 1, told once"


def test_stories_are_prepared_page_by_page(prepare, tmp_path):
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"")
    stories = [
        {"id": name, "split": split, "pages": [{"image": "picture.jpg", "text": f"{name} {i}"}] * 2}
        for i, (name, split) in enumerate((("one", "train"), ("two", "dev"), ("three", "dev")))
    ]
    (tmp_path / "stories.jsonl").write_text("\n".join(map(json.dumps, stories)))
    task = open_task("image_sequence", str(tmp_path), tmp_path / "out", encoding=Encoding())
    assert {split: len(raw) for split, raw in task.raw.items()} == {"dev": 4, "train": 2}
    record = task.raw["dev"][2]
    assert (record.kind, record.group, record.captions[0].text) == ("image", "three", "three 2")


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(shrunken(quickstart.get_config("fine=none")))


def bound(experiment, protocol, source, **options):
    get_config = importlib.import_module(f"configs.eval.{protocol}").get_config
    entry = configs.plain(get_config(f"corpus={options.pop('corpus')},root=nowhere"))
    entry |= {"source": source, **options}
    evaluation = components.find("eval", entry.pop("name"))
    return evaluation(**components.check(evaluation, entry, key=protocol)).bind(experiment)


def test_labelled_evaluations_find_the_same_in_prepared_corpora(roots, prepare, experiment):
    esc50, _ = prepare("esc50")
    ucf101, _ = prepare("ucf101")
    for protocol, name, folder, split in (
        ("linear_probe", "esc50", esc50, "whole"),
        ("zero_shot", "esc50", esc50, "whole"),
        ("zero_shot", "ucf101", ucf101, "test"),
    ):
        own = {} if split == "whole" else {"split": split}
        files = {"name": name, "root": str(roots[name]), **own, **WINDOWS}
        read = {"name": "prepared", "root": str(folder), "split": split, **WINDOWS}
        made = [bound(experiment, protocol, source, corpus=name) for source in (files, read)]
        found = [getattr(one, "recordings", None) or one.parts[0] for one in made]
        assert found[0].classes == found[1].classes
        assert found[0].groups == found[1].groups
        for of in ("labels", "owner"):
            np.testing.assert_array_equal(getattr(found[0], of), getattr(found[1], of))
        if protocol == "linear_probe":
            assert made[0].fold.tolist() == made[1].fold.tolist() == [0, 1, 2, 3, 4] * 4
        else:
            assert made[0].words == made[1].words


def test_what_makes_no_sense_is_refused_with_the_reason(roots, prepare, tmp_path):
    for source, root, splits, message in [
        ("narrated_shapes", tmp_path, (), "it has no files"),
        ("mixture", tmp_path, (), "it has no files"),
        (
            "esc50",
            roots["esc50"],
            ["train"],
            "--splits=train: esc50 has no splits; leave --splits out",
        ),
        ("ucf101", roots["ucf101"], ["validation"], "split='validation' is unknown"),
        (
            "ucf101",
            roots["ucf101"],
            ["all"],
            "--splits=all must be letters, digits and underscores, and not 'all'",
        ),
        ("ucf101:windows=3", roots["ucf101"], (), "variant 'windows=3' is unknown"),
        ("labelled_folder", roots["ucf101"], ["nope"], "has no video of split='nope'"),
    ]:
        with pytest.raises(ConfigError, match=message) as error:
            prepare(source, splits, root)
        assert len(str(error.value).splitlines()) == 1


def test_several_classes_of_a_file_are_kept(roots, prepare, tmp_path):
    video = roots["youcook2"] / "raw_videos" / "training" / "113" / "train0.mkv"
    for name in ("1.mkv", "2.mkv"):
        shutil.copy(video, tmp_path / name)
    (tmp_path / "t.csv").write_text("filename,label\n1.mkv,a;b\n2.mkv,b\n")
    folder, _ = prepare("labelled_folder:listing=t.csv,separator=;", root=tmp_path)
    read = prepared.Source(root=str(folder), split="whole", **WINDOWS)
    labels = {clip.clip_id: clip.labels for clip in read}
    assert labels == {"1.mkv": {"label": (0, 1)}, "2.mkv": {"label": (1,)}}
    assert prepared._labels([b"kind"], [SEVERAL]) == {"kind": ()}
    assert prepared._labels([b"kind", b"other"], [3, 1]) == {"kind": 3, "other": 1}


def test_splits_of_a_folder_have_the_classes_of_all(roots, prepare, tmp_path):
    for split, names in (("train", ("a", "b")), ("test", ("a",))):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            shutil.copy(
                roots["youcook2"] / "raw_videos" / "training" / "113" / "train0.mkv",
                tmp_path / split / name / "1.mkv",
            )
    folder, reports = prepare("labelled_folder", ["train", "test"], tmp_path)
    assert prepared.Source(root=str(folder), split="test").classes == {"label": ("a", "b")}
    assert [report.kept for report in reports.values()] == [2, 1]
