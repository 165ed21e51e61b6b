"""Fine-tuning from a checkpoint on disk, by the trainer, on 8 simulated devices."""

import collections
import dataclasses
import importlib
import json
from typing import ClassVar

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.convert import converted
from fgmm.eval import binary, classification, finetune, inside_training
from fgmm.experiment import build as experiments
from fgmm.train import checkpoint
from tests.shrunken import shrunken

COLOURS = {"name": "tests.eval.labelled_fixture", "recordings": 30, "groups": 6}
TRAIN, TEST = {**COLOURS, "windows": 1}, {**COLOURS, "windows": 2, "broken": (3, 8, 9)}
TRAINING = {
    "batch_size": 8,
    "progress": False,
    "watchdog_seconds": 0.0,
    "optimizer": {"learning_rate": 0.02, "schedule": {"warmup": 0.0}},
    "transforms": {"flip": True},
}


def protocol(**options):
    given = {"source": TRAIN, "test_source": TEST, "label": "colour", "folds": 2}
    given |= {"training": TRAINING, "epochs": 12.0, "untrained": False, "batch_size": 16}
    return finetune.Evaluation(**{**given, **options})


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(shrunken(quickstart.get_config(), pair="video_text"))


@pytest.fixture(scope="module")
def start(experiment, tmp_path_factory):
    """A checkpoint as a converter writes it."""
    folder = tmp_path_factory.mktemp("start") / "run"
    state = jax.device_get(jax.jit(experiment.init)(7))
    converted.write(converted.Conversion(experiment, state), folder, {})
    return {"path": str(folder), "step": "latest", "weights": ""}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return tmp_path_factory.mktemp("trainings")


@pytest.fixture(scope="module")
def measured(experiment, start, trainings):
    return finetune.measure(protocol(), experiment, start, trainings)


def by_hand(workdir, entry):
    """Whether the class of each recording is found, clip by clip, and its name."""
    built, state = checkpoint.load(workdir)
    source = built.source(entry, "source")
    logits = {}
    for record in range(len(source)):
        example = built.assembler(source)(record)
        if example["video_mask"]:
            batch = {k: x[None] for k, x in example.items() if k.startswith("video")}
            of_clip = built.embed(state, batch)["classifiers"]["colour"][0]
            logits.setdefault(source[record].clip_id, []).append(np.asarray(of_clip, np.float64))
    probabilities = {
        name: np.mean([np.exp(x) / np.exp(x).sum() for x in of_clip], axis=0)
        for name, of_clip in logits.items()
    }
    return {name: int(p.argmax()) == int(name[4:]) % 3 for name, p in probabilities.items()}


def test_networks_are_tested_on_what_they_were_not_trained_on(measured, trainings):
    result, seen = measured["results"], []
    for number, part in enumerate(finetune.parts(protocol()), 1):
        assert part.train["take"] == (3 - number,)
        found = by_hand(trainings / "finetuned" / f"fold{number}-seed0", part.test)
        assert result[f"part/fold{number}"] == pytest.approx(np.mean([*found.values()]))
        seen += found
    # Both windows of the recording 4 are broken.
    assert sorted(seen) == sorted(f"clip{n}" for n in range(30) if n != 4)
    assert result["accuracy@1"] == pytest.approx(
        np.mean([result["part/fold1"], result["part/fold2"]])
    )
    assert result["accuracy@1"] > 0.9
    assert (result["clips"], result["clips_left_out"], result["windows"]) == (29, 1, 57)
    assert result["chance_accuracy@1"] == 1 / 3
    assert result["majority_accuracy@1"] == pytest.approx(10 / 29)
    assert result["bad_input/unreadable_video"] == 3
    ranks = measured["by_query"]["seed_0/class_rank"]
    assert len(ranks) == len(measured["queries"][""]["name"]) == 29
    assert measured["protocol"]["classes_unseen_by_part"] == {"fold1": [], "fold2": []}


def test_a_training_is_a_run_like_any_other(measured, start, trainings):
    workdir = trainings / "finetuned" / "fold1-seed0"
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    # 15 clips of the other fold, 12 times, by eights.
    assert len(lines) == lines[-1]["step"] == 23
    assert lines[0]["loss"] == pytest.approx(np.log(3), rel=1e-5)
    assert lines[-1]["colour/top1"] > 0.9
    assert {line["labels/video"] for line in lines} == {8.0}
    built, state = checkpoint.load(workdir)
    assert set(built.model.encoders) == {"video"}
    assert built.config.init_from.path == start["path"]
    (begun,) = [json.loads(line) for line in (workdir / "provenance.jsonl").open()]
    assert begun["init_from"]["path"] == start["path"]
    assert built.config.transforms.flip
    assert set(state.params["model"]) == {"encoders_video", "classifiers_colour"}


def test_the_same_command_goes_on_where_it_was(measured, experiment, start, trainings):
    before = {path: path.read_text() for path in trainings.rglob("metrics.jsonl")}
    again = finetune.measure(protocol(), experiment, start, trainings)
    assert again["results"] == measured["results"]
    assert {path: path.read_text() for path in trainings.rglob("metrics.jsonl")} == before


def test_the_table_has_what_to_compare_with(measured):
    table = protocol().table(measured["results"])
    assert "| fine-tuned |" in table
    assert "majority_accuracy@1" in table
    assert "fine-tuned, by part: fold1 " in table
    assert "29 clips in 57 windows; clips left out" in table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repainted:
    """The recordings of the fixture, of which blue ones are called violet, a class of its own."""

    classes: ClassVar = {"colour": ("violet", "red", "lime_green")}
    report: ClassVar = collections.Counter()

    def __len__(self):
        return 12

    def __getitem__(self, index):
        from tests.eval import labelled_fixture

        clip = labelled_fixture.Source(recordings=12, windows=1)[index]
        label = (clip.labels["colour"] + 1) % 3
        return dataclasses.replace(clip, labels={"colour": label})


def test_classes_go_by_name_and_unknown_ones_count_as_wrong(measured, trainings):
    built, state = checkpoint.load(trainings / "finetuned" / "fold1-seed0")
    same = classification.Evaluation(source={**COLOURS, "windows": 1}, batch_size=16)
    bound = same.bind(built)
    assert bound.protocol["label"] == "colour"
    right = bound(state)
    assert right["accuracy@1"] > 0.9
    assert right["classes_unknown"] == right["clips_of_unknown_classes"] == 0
    other = classification.Evaluation(source={"name": f"{__name__}:Repainted"}, batch_size=16)
    result = other.bind(built)(state)
    assert (result["classes_unknown"], result["clips_of_unknown_classes"]) == (1, 4)
    assert result["class_accuracy/violet"] == 0
    assert result["accuracy@1"] == pytest.approx(
        (4 * result["class_accuracy/red"] + 4 * result["class_accuracy/lime_green"]) / 12
    )
    assert "does not have: 1, 4 clips, counted as wrong" in other.table(result)
    with pytest.raises(ConfigError, match=r"classifier='sound' is not in .*: colour$"):
        classification.Evaluation(source=TEST, classifier="sound").bind(built)


def test_a_checkpoint_without_what_is_asked_for_is_an_error(experiment, start, tmp_path):
    with pytest.raises(ConfigError, match=r"checkpoint has no audio encoder; it has: video"):
        finetune.measure(protocol(modality="audio"), experiment, start, tmp_path)
    with pytest.raises(ConfigError, match="the checkpoint has no classifier; configs/fi"):
        classification.Evaluation(source=TEST).bind(experiment)
    with pytest.raises(ConfigError, match=r"finetune trains runs of its own .* classification is"):
        protocol().bind(experiment)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "shape"}, r"label='shape' is unknown to the source"),
        ({"folds": 1}, r"folds=1 with splits=\(\): give at least two folds"),
        ({"splits": (1, 2)}, r"folds=2 with splits=\(1, 2\)"),
        ({"validation": True}, r"validation=True needs at least three folds; got folds=2"),
        ({"training": {"optimizer": {"rate": 1.0}}}, r"optimizer\.rate=1\.0 is unknown"),
        ({"training": {"steps": "many"}}, r"finetune\.training: .*"),
        (
            {"term": {"name": "info_nce"}},
            r"finetune\.term\.name='info_nce' compares no labels",
        ),
        ({"pool": "own"}, r"classifiers\.colour\.pool='own' needs a coarse feature"),
    ],
)
def test_wrong_options_are_named(options, message, experiment, start):
    def build():
        given = protocol(**options)
        first, *_ = finetune.parts(given)
        of_checkpoint = configs.as_dict(experiment.config)
        experiments.build(finetune.training_config(given, of_checkpoint, start, first)[0])

    with pytest.raises(ConfigError, match=message):
        build()


def test_parts_for_choosing_a_recipe_leave_the_test_part_out():
    given = protocol(folds=4, validation=True)
    taken = [(part.train["take"], part.test["take"]) for part in finetune.parts(given)]
    assert taken == [((3, 4), (2,)), ((1, 4), (3,)), ((1, 2), (4,)), ((2, 3), (1,))]


def test_one_list_is_not_both_trained_on_and_tested_on():
    shapes = {"name": "narrated_shapes", "split": "motion", "windows": 0}
    with pytest.raises(ConfigError, match="test_source names the recordings of source"):
        protocol(folds=0, source=shapes, test_source=shapes | {"windows": 3})
    protocol(folds=0, source=shapes | {"split": "train"}, test_source=shapes)


def test_official_splits_are_those_of_the_sources():
    entry = importlib.import_module("configs.eval.finetune").get_config("corpus=ucf101,root=u")
    given = components.build("eval", configs.plain(entry), key="finetune")
    parts = finetune.parts(given)
    assert [part.name for part in parts] == ["split1", "split2", "split3"]
    common = {"name": "ucf101", "root": "u", "fold": 2}
    assert parts[1].train == {**common, "split": "train", "windows": 0}
    assert parts[1].test == {**common, "split": "test", "windows": 10}
    one = importlib.import_module("configs.eval.finetune").get_config("corpus=ucf101,fold=3")
    assert one.splits == (3,)
    assert binary.label_of("eval/finetune:corpus=ucf101") == "finetune_ucf101"


def test_several_classes_a_clip_are_trained_and_tested(experiment, start, tmp_path):
    entry = importlib.import_module("configs.eval.finetune").get_config("corpus=shapes,clips=32")
    entry = configs.plain(entry)
    for key in ("source", "test_source"):
        entry[key] |= {"size": 32, "frames": 4}
    entry |= {"folds": 2, "epochs": 1.0, "untrained": False}
    entry["training"] = {**TRAINING, "transforms": {}}
    given = components.build("eval", entry, key="finetune")
    result = finetune.measure(given, experiment, start, tmp_path)["results"]
    assert 0 < result["mAP_low"] < result["mAP"] < result["mAP_high"] < 1
    assert result["chance_mAP"] == pytest.approx(
        np.mean([_prevalence(given, part) for part in finetune.parts(given)])
    )
    assert "| fine-tuned | " in given.table(result)
    assert f"{100 * result['mAP']:.2f}%" in given.table(result)


def _prevalence(given, part):
    source = components.build("data.sources", part.test, key="source")
    labels = np.zeros((len(source), 6), bool)
    for row in range(len(source)):
        labels[row, list(source[row].labels["shapes"])] = True
    return labels[:, labels.any(axis=0)].mean()


def test_a_part_by_itself_is_a_config_for_the_trainer(start, monkeypatch):
    argument = f"checkpoint={start['path']},corpus=motion,clips=40,part=2,epochs=3,seed=5"
    config = importlib.import_module("configs.finetune").get_config(argument)
    assert config.data.source.take == (1, 3, 4, 5)
    assert (config.seed, config.steps, config.data.label) == (5, 3, "motion")
    assert not config.transforms.flip
    built = experiments.build(config)
    built.training_source()
    assert inside_training.from_config(built).keys() == {"test"}
    with pytest.raises(ConfigError, match=r"variant part=6 must be from 1 to 5"):
        importlib.import_module("configs.finetune").get_config(argument.replace("t=2", "t=6"))
