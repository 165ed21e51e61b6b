"""The evaluation as a program, on a checkpoint made by a few steps of training."""

import json
import subprocess
import sys

import pytest

from configs import quickstart
from fgmm import components
from fgmm import experiment as experiments
from fgmm.config import ConfigError
from fgmm.eval import inside_training
from fgmm.train import loop
from tests.shrunken import shrunken


@pytest.fixture(scope="module")
def run_of_training(tmp_path_factory):
    config = shrunken(quickstart.get_config(), steps=4)
    config.checkpoint.update(keep_last=1, every_steps=1)
    config.evals.retrieval.every = 2
    experiment = experiments.build(components.complete(config))
    source = experiment.source(experiment.config.data.source, "data.source")
    workdir = tmp_path_factory.mktemp("run")
    loop.train(experiment, source, workdir, inside_training.from_config(experiment))
    return workdir


def evaluate(repository, workdir, *flags):
    command = [sys.executable, "-m", "fgmm.eval.retrieval", f"--workdir={workdir}", *flags]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_gives_what_training_gave(repository, run_of_training):
    output = evaluate(repository, run_of_training)
    assert "fine, text to video" in output
    report = json.loads((run_of_training / "retrieval-4.json").read_text())
    (*_, last) = map(json.loads, (run_of_training / "metrics.jsonl").open())
    for name, value in report["results"].items():
        assert value == pytest.approx(last[f"retrieval/{name}"], abs=1e-9), name
    assert report["protocol"]["space"] == "joint"
    assert report["protocol"]["term"] == "fine_video_text"
    assert report["protocol"]["source"]["split"] == "retrieval"
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
    output = evaluate(repository, run_of_training, f"--config={protocol}", "--step=best")
    assert "gallery: 12 clips" in output
    lines = [json.loads(line) for line in (run_of_training / "metrics.jsonl").open()]
    metric = "retrieval/coarse/text_to_video/r@10"
    scores = {line["step"]: line[metric] for line in lines if metric in line}
    assert set(scores) == {2, 4}
    best = max(scores, key=lambda step: (scores[step], step))
    report = json.loads((run_of_training / f"few-{best}.json").read_text())
    assert report["step"] == best


def test_when_to_evaluate_is_checked():
    config = shrunken(quickstart.get_config())
    config.evals.retrieval.every = -1
    with pytest.raises(ConfigError, match=r"evals\.retrieval\.every=-1 must be 0"):
        inside_training.from_config(experiments.build(config))
