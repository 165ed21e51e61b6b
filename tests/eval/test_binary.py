"""The evaluation as a program, on a checkpoint made by a few steps of training."""

import contextlib
import dataclasses
import errno
import io
import json
import pathlib
import tempfile
import types
from collections.abc import Mapping

import ml_collections
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.eval import binary, compare, inside_training
from fgmm.experiment import build as experiments
from fgmm.train import loop
from tests import programs
from tests.shrunken import shrunken

MOTION = {"name": "narrated_shapes", "split": "motion", "clips": 40, "size": 32, "frames": 4}
# What each evaluation, under its own name in the config, prints and says of its protocol.
EVALUATIONS = {
    "retrieval": ("retrieval", "fine, text to video", {"term": "fine_video_text"}),
    "probe": ("linear_probe", "| untrained |", {"folds": 3, "untrained_statistics": "initial"}),
    "by_name": ("zero_shot", "accuracy@5", {"space": "joint", "templates": ["the ball is {}"]}),
}


@pytest.fixture(scope="module")
def run_of_training(trained):
    return trained[0]


@pytest.fixture(scope="module")
def run_of_training_printed(trained):
    return trained[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = shrunken(quickstart.get_config(), steps=4)
    config.checkpoint.update(keep_last=1, every_steps=1)
    config.evals.retrieval.every = 2
    common = {"source": MOTION, "label": "motion"}
    config.evals.probe = {"name": "linear_probe", "folds": 3, **common}
    config.evals.by_name = {"name": "zero_shot", "templates": ("the ball is {}",), **common}
    experiment = experiments.build(components.complete(config))
    source = experiment.source(experiment.config.data.source, "data.source")
    workdir = tmp_path_factory.mktemp("run")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        loop.train(experiment, source, workdir, inside_training.from_config(experiment))
    return workdir, printed.getvalue()


def evaluate(repository, workdir, *flags, name="retrieval"):
    result = programs.run(f"fgmm.eval.{name}", f"--workdir={workdir}", *flags, cwd=repository)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("label", EVALUATIONS)
def test_it_gives_what_training_gave(repository, run_of_training, label):
    name, printed, stated = EVALUATIONS[label]
    assert printed in evaluate(repository, run_of_training, name=name)
    report = json.loads((run_of_training / f"{label}-4.json").read_text())
    (*_, last) = map(json.loads, (run_of_training / "metrics.jsonl").open())
    for metric, value in report["results"].items():
        assert value == pytest.approx(last[f"{label}/{metric}"], abs=1e-9), metric
    assert report["evaluation"] == name
    assert report["protocol"].items() >= stated.items()
    assert report["protocol"]["source"]["name"] == "narrated_shapes"
    assert report["config"]["steps"] == report["step"] == 4


@pytest.mark.long
def test_watching_gives_what_training_gave(repository, run_of_training):
    protocol = run_of_training / "retrieval.py"
    protocol.write_text(
        "from configs import quickstart\n"
        "from tests.shrunken import shrunken\n"
        "def get_config(argument=None):\n"
        "    entry = shrunken(quickstart.get_config()).evals.retrieval.unlock()\n"
        "    del entry.every\n"
        "    return entry\n"
    )
    output = evaluate(repository, run_of_training, f"--config={protocol}", name="watch")
    assert output.endswith("the run has ended, with step 4\n")
    first = json.loads((run_of_training / "watch" / "retrieval.jsonl").read_text().splitlines()[0])
    (*_, last) = map(json.loads, (run_of_training / "metrics.jsonl").open())
    assert first.pop("step") == 4
    assert first.pop("weights") == "last"
    for name, value in first.items():
        assert value == pytest.approx(last[name], abs=1e-9), name


def test_the_best_and_another_protocol(repository, run_of_training):
    protocol = run_of_training / "few.py"
    protocol.write_text(
        "import ml_collections\n"
        "def get_config(argument=None):\n"
        "    source = dict(name='narrated_shapes', split='retrieval', clips=12,\n"
        "                  size=32, frames=4)\n"
        "    return ml_collections.ConfigDict(dict(name='retrieval', source=source))\n"
    )
    flags = (f"--config={protocol}:corpus=shapes", "--step=best")
    output = evaluate(repository, run_of_training, *flags)
    assert "gallery: 12 clips" in output
    lines = [json.loads(line) for line in (run_of_training / "metrics.jsonl").open()]
    metric = "retrieval/coarse/text_to_video/r@10"
    scores = {line["step"]: line[metric] for line in lines if metric in line}
    assert set(scores) == {2, 4}
    best = max(scores, key=lambda step: (scores[step], step))
    report = json.loads((run_of_training / f"few_shapes-{best}.json").read_text())
    assert report["step"] == best


def test_a_result_of_another_protocol_is_replaced_with_a_word(tmp_path):
    path = tmp_path / "retrieval_flickr8k-3.json"
    now = {"source": {"name": "flickr8k", "split": "test"}, "captions": 5, "folds": (1, 2)}
    assert binary.differences_from(path, now) == []
    binary.write(path, {"protocol": now})
    assert binary.differences_from(path, now) == []
    before = {**now, "source": {"name": "flickr8k", "split": "dev"}}
    binary.write(path, {"protocol": before})
    (line,) = binary.differences_from(path, now)
    assert "another protocol (source.split: 'dev' -> 'test'); it is replaced" in line
    path.write_text("[]")
    assert binary.differences_from(path, now) == []


def test_the_outcome_of_every_query(repository, run_of_training, tmp_path):
    for label, metric, outcome, found in (
        ("retrieval", "coarse/text_to_video/r@10", "coarse/text_to_video/rank", range(1, 11)),
        ("probe", "accuracy", "correct", (1,)),
    ):
        output = tmp_path / f"{label}.json"
        name = EVALUATIONS[label][0]
        flags = (f"--output={output}", "--by_query")
        evaluate(repository, run_of_training, *flags, name=name)
        report = json.loads(output.read_text())
        outcomes = report["by_query"][outcome]
        # Folds of 13 and 14 clips weigh alike in the accuracy.
        share = sum(value in found for value in outcomes) / len(outcomes)
        assert share == pytest.approx(report["results"][metric], abs=0.03 * (label == "probe"))
        same = compare.compared(report, report)[metric]
        assert (same.first, same.low, same.high) == (share, 0, 0)


def test_an_evaluation_without_outcomes_of_queries_says_so():
    with pytest.raises(ConfigError, match="--by_query: spread keeps no outcomes of single queries"):
        binary.check_outcomes("spread", lambda state: {})


def test_where_to_write_is_made_or_refused_before_anything_is_computed(
    repository, run_of_training, tmp_path
):
    output = tmp_path / "new" / "folder" / "r.json"
    printed = evaluate(repository, run_of_training, f"--output={output}")
    assert printed.index("median_rank") < printed.index(f"written to {output}")
    assert json.loads(output.read_text())["step"] == 4
    evaluate(repository, run_of_training, f"--output={output.parent}")
    assert (output.parent / "retrieval-4.json").read_text()
    (tmp_path / "file").touch()
    for flag in (f"--output={tmp_path}/file/r.json", "--output=/proc/fgmm/r.json"):
        flags = (f"--workdir={run_of_training}", flag)
        done = programs.run("fgmm.eval.retrieval", *flags, cwd=repository)
        assert done.returncode == 2
        folder = flag.removeprefix("--output=").removesuffix("/r.json")
        assert done.stderr.startswith(f"error: the folder {folder} cannot be written (")
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_a_run_that_cannot_be_written_is_evaluated_into_a_file_of_ones_own(
    run_of_training, tmp_path, monkeypatch
):
    def temporary(*, dir):
        if pathlib.Path(dir) == run_of_training:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open(tmp_path / "probe", "w")

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    values = types.SimpleNamespace(output=None)
    monkeypatch.setattr(binary, "flags", types.SimpleNamespace(FLAGS=values))
    with pytest.raises(ConfigError, match=r"cannot be written \(Permission denied\).*--output"):
        binary._outputs(run_of_training, ["retrieval", "probe"], "-4")
    values.output = str(tmp_path)
    outputs = binary._outputs(run_of_training, ["retrieval", "probe"], "-4")
    assert outputs["probe"] == tmp_path / "probe-4.json"
    values.output = str(tmp_path / "r.json")
    with pytest.raises(ConfigError, match="several such evaluations"):
        binary._outputs(run_of_training, ["retrieval", "probe"], "-4")


def test_the_last_weights_beside_an_average_have_a_file_of_their_own():
    of_ema, of_none = (
        types.SimpleNamespace(optimizer=types.SimpleNamespace(ema=decay)) for decay in (0.9, 0.0)
    )
    assert binary.which_weights(of_ema, "last") == "_last"
    assert {binary.which_weights(of_ema, "ema"), binary.which_weights(of_ema, "")} == {""}
    assert binary.which_weights(of_none, "last") == ""


def test_a_config_of_another_evaluation_names_its_program():
    message = "--config describes 'gates'; run python -m fgmm.eval.gates"
    with pytest.raises(ConfigError, match=message):
        binary.check_name({"name": "gates"}, "retrieval")
    with pytest.raises(ConfigError, match="describes None; it must have name='retrieval'"):
        binary.check_name({}, "retrieval")


def test_when_to_evaluate_is_checked():
    config = shrunken(quickstart.get_config())
    config.evals.retrieval.every = -1
    with pytest.raises(ConfigError, match=r"evals\.retrieval\.every=-1 must be at least 0"):
        inside_training.from_config(experiments.build(config))


def test_evaluations_inside_training_print_their_table(run_of_training_printed):
    assert "retrieval, step 2\n" in run_of_training_printed
    assert run_of_training_printed.count("gallery: 16 clips") == 2
    assert "probe, step 4\n" in run_of_training_printed


@dataclasses.dataclass(frozen=True)
class Refusing:
    """An evaluation whose corpus lacks the split."""

    source: Mapping

    def bind(self, experiment):
        raise ConfigError("split='validation' is unknown to 'pictures'; allowed: train, dev")


def test_an_evaluation_that_cannot_be_bound_is_named_with_the_way_to_train_without_it():
    entry = {"name": "tests.eval.test_binary:Refusing", "source": {"name": "x"}}
    config = ml_collections.FrozenConfigDict({"evals": {"validation": entry}})
    built = experiments.build(shrunken(quickstart.get_config()))
    with pytest.raises(ConfigError) as error:
        inside_training.from_config(dataclasses.replace(built, config=config))
    message = str(error.value)
    assert message.startswith("evals.validation: split='validation' is unknown to 'pictures'")
    assert "remove evals.validation from the config; shipped configs take validation=0" in message
