"""The evaluation as a program, on a checkpoint made by a few steps of training."""

import json
import subprocess
import sys

import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.eval import inside_training
from fgmm.experiment import build as experiments
from fgmm.train import loop
from tests.shrunken import shrunken

MOTION = {"name": "narrated_shapes", "split": "motion", "clips": 40, "size": 32, "frames": 4}
# What each evaluation, under its own name in the config, prints and says of its protocol.
EVALUATIONS = {
    "retrieval": ("retrieval", "fine, text to video", {"term": "fine_video_text"}),
    "probe": ("linear_probe", "| untrained |", {"folds": 3, "untrained_statistics": "initial"}),
    "by_name": ("zero_shot", "accuracy@5", {"space": "joint", "templates": ["the ball is {}"]}),
}


@pytest.fixture(scope="module")
def run_of_training(tmp_path_factory):
    config = shrunken(quickstart.get_config(), steps=4)
    config.checkpoint.update(keep_last=1, every_steps=1)
    config.evals.retrieval.every = 2
    common = {"source": MOTION, "label": "motion"}
    config.evals.probe = {"name": "linear_probe", "folds": 3, **common}
    config.evals.by_name = {"name": "zero_shot", "templates": ("the ball is {}",), **common}
    experiment = experiments.build(components.complete(config))
    source = experiment.source(experiment.config.data.source, "data.source")
    workdir = tmp_path_factory.mktemp("run")
    loop.train(experiment, source, workdir, inside_training.from_config(experiment))
    return workdir


def evaluate(repository, workdir, *flags, name="retrieval"):
    command = [sys.executable, "-m", f"fgmm.eval.{name}", f"--workdir={workdir}", *flags]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
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


def test_an_evaluation_without_outcomes_of_queries_says_so(repository, run_of_training):
    command = [sys.executable, "-m", "fgmm.eval.zero_shot", f"--workdir={run_of_training}"]
    done = subprocess.run(
        [*command, "--by_query"], cwd=repository, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --by_query: zero_shot keeps no outcomes")


def test_when_to_evaluate_is_checked():
    config = shrunken(quickstart.get_config())
    config.evals.retrieval.every = -1
    with pytest.raises(ConfigError, match=r"evals\.retrieval\.every=-1 must be at least 0"):
        inside_training.from_config(experiments.build(config))
