"""Evaluations inside training: whatever ends one, the next start makes it up, and nothing else."""

import json
import os
import signal

import pytest

from fgmm import components
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.experiment.evaluator import Evaluator
from fgmm.interruption import Interrupted
from fgmm.train import checkpoint, loop, recovery, speed
from tests.faults import small


def built(metric: str = ""):
    config = small.get_config()
    config.steps, config.batch_size = 3, 8
    config.checkpoint.update(every_steps=0, keep_last=1, best_metric=metric)
    return experiments.build(components.complete(config))


@pytest.fixture(scope="module")
def experiment():
    return built("retrieval/accuracy")


def trained(experiment, workdir, evaluators):
    return loop.train(experiment, experiment.training_source(), workdir, evaluators)


class Counting:
    """An evaluation that remembers its steps; before its number it does what it is told to."""

    def __init__(self, **at_step):
        self.steps, self.at_step = [], {int(name[1:]): act for name, act in at_step.items()}

    def __call__(self, state):
        step = int(state.step)
        self.at_step.pop(step, lambda: None)()
        self.steps.append(step)
        return {"accuracy": 1 / step}


def fails():
    raise OSError("the corpus went away")


def terminated():
    os.kill(os.getpid(), signal.SIGTERM)


def asked_twice():
    """The second Ctrl-C ends a program where it is."""
    raise KeyboardInterrupt


def lines(workdir):
    found = map(json.loads, (workdir / "metrics.jsonl").open())
    return [{k: v for k, v in line.items() if k not in speed.KEYS} for line in found]


def position(workdir, step):
    path = workdir / "checkpoints" / str(step) / "position" / "metadata"
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def expected(experiment, tmp_path_factory):
    """The lines of a run to which nothing happens; step 1 is the best."""
    workdir = tmp_path_factory.mktemp("whole")
    evaluators = {"other": Evaluator(1, Counting()), "retrieval": Evaluator(1, Counting())}
    trained(experiment, workdir, evaluators)
    # The last one and the best one are left.
    assert recovery.steps(workdir / "checkpoints") == [3, 1]
    return lines(workdir)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.long), 3])
def test_one_that_fails_is_made_up(experiment, expected, tmp_path, step, capsys):
    other, failing = Counting(), Counting(**{f"_{step}": fails})
    evaluators = {"other": Evaluator(1, other), "retrieval": Evaluator(1, failing)}
    with pytest.raises(OSError, match="went away"):
        trained(experiment, tmp_path, evaluators)
    (*_, last) = lines(tmp_path)
    assert last == {k: v for k, v in expected[step - 1].items() if k != "retrieval/accuracy"}
    assert position(tmp_path, step)["evaluations"]["due"] == ["retrieval"]
    state = trained(experiment, tmp_path, evaluators)
    assert f"step {step} is still to be evaluated: retrieval" in capsys.readouterr().out
    assert int(state.step) == 3
    assert other.steps == failing.steps == [1, 2, 3]
    assert lines(tmp_path) == expected
    assert recovery.steps(tmp_path / "checkpoints") == [3, 1]
    assert "evaluations" not in position(tmp_path, 3)
    _, best = checkpoint.load(tmp_path, "best")
    assert int(best.step) == 1


def test_the_state_is_there_while_it_is_evaluated(experiment, expected, tmp_path):
    evaluators = {"retrieval": Evaluator(2, Counting(_2=asked_twice))}
    with pytest.raises(KeyboardInterrupt):
        trained(experiment, tmp_path, evaluators)
    assert [line["step"] for line in lines(tmp_path)] == [1]
    assert recovery.steps(tmp_path / "checkpoints") == [2]
    trained(experiment, tmp_path, evaluators)
    plain = [{k: v for k, v in line.items() if "accuracy" not in k} for line in expected]
    plain[1]["retrieval/accuracy"], plain[2]["retrieval/accuracy"] = 1 / 2, 1 / 3
    assert lines(tmp_path) == plain


def test_a_stop_leaves_out_what_has_not_begun(experiment, expected, tmp_path):
    first, second = Counting(_2=terminated), Counting()
    evaluators = {"other": Evaluator(1, first), "retrieval": Evaluator(1, second)}
    with pytest.raises(Interrupted, match=r"at step 2 of 3, saved, still .* \(retrieval\)\. To"):
        trained(experiment, tmp_path, evaluators)
    assert (first.steps, second.steps) == ([1, 2], [1])
    trained(experiment, tmp_path, evaluators)
    assert first.steps == second.steps == [1, 2, 3]
    assert lines(tmp_path) == expected


@pytest.mark.parametrize("step", [1, pytest.param(3, marks=pytest.mark.long)])
def test_none_begins_once_a_stop_is_known(experiment, expected, tmp_path, step, monkeypatch):
    evaluation = Counting()
    evaluators = {"other": Evaluator(1, evaluation), "retrieval": Evaluator(1, Counting())}
    hear = loop._Run._hear

    def heard(self, told):
        counts = hear(self, told)
        if self.step == step and evaluation.steps != [1, 2, 3]:
            self.stopping = signal.SIGTERM
        return counts

    monkeypatch.setattr(loop._Run, "_hear", heard)
    with pytest.raises(Interrupted, match=r"\(other, retrieval\)") as stopped:
        trained(experiment, tmp_path, evaluators)
    assert stopped.value.exit_code == 143
    assert evaluation.steps == list(range(1, step))
    trained(experiment, tmp_path, evaluators)
    assert lines(tmp_path) == expected


def test_a_stop_of_another_process_counts(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.distributed, "exchange", lambda text: [text, str(signal.SIGTERM)])
    evaluators = {"retrieval": Evaluator(1, Counting()), "later": Evaluator(1, Counting())}
    with pytest.raises(Interrupted, match=r"at step 1 of 3, saved, still .* \(later\)"):
        trained(experiment, tmp_path, evaluators)


@pytest.mark.long
def test_one_that_is_gone_from_the_config_is_not_missed(experiment, expected, tmp_path):
    failing = {"gone": Evaluator(0, Counting(_3=fails))}
    with pytest.raises(OSError, match="went away"):
        trained(experiment, tmp_path, failing)
    trained(experiment, tmp_path, {})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert "evaluations" not in position(tmp_path, 3)


def test_a_best_metric_that_is_no_number_of_its_evaluation(tmp_path):
    evaluators = {"retrieval": Evaluator(2, Counting())}
    with pytest.raises(ConfigError) as error:
        trained(built("retrieval/acuracy"), tmp_path, evaluators)
    assert str(error.value) == (
        "checkpoint.best_metric='retrieval/acuracy' is no number of the evaluation 'retrieval'; it "
        "reports retrieval/accuracy. The state is saved: start again with one of these, or with "
        "--config.checkpoint.best_metric= to keep no best checkpoint"
    )
    assert recovery.steps(tmp_path / "checkpoints") == [2]
    trained(built("retrieval/accuracy"), tmp_path, evaluators)
    _, best = checkpoint.load(tmp_path, "best")
    assert int(best.step) == 2
    assert [line.get("retrieval/accuracy") for line in lines(tmp_path)] == [None, 1 / 2, 1 / 3]
