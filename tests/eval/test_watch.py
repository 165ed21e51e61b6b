import json
import shutil
import types

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.eval import watch
from fgmm.train import checkpoint
from tests import programs

PROTOCOL = {"name": "retrieval", "source": {"name": "shapes"}, "words": ("a", "b")}


class Evaluation:
    """The score is the step; while one is evaluated, the next ``comes`` are saved."""

    def __init__(self, workdir, comes=()):
        self.workdir, self.comes, self.bound = workdir, list(comes), 0

    def bind(self, experiment):
        self.bound += 1

        def run(state):
            for step in self.comes.pop(0) if self.comes else ():
                save(self.workdir, step)
            return {"r@10": float(state), "unknown": np.nan}

        return run

    def table(self, result):
        return f"r@10 {result['r@10']:g}"


def save(workdir, step):
    (workdir / "checkpoints" / str(step)).mkdir(parents=True)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of 6 steps whose checkpoints are folders."""

    def load(workdir, step, weights):
        if step == "3":
            raise ConfigError("a file of it is damaged")
        if step == "4":
            shutil.rmtree(workdir / "checkpoints" / "4")
            raise ConfigError("there is no checkpoint of --step='4'")
        return types.SimpleNamespace(config=types.SimpleNamespace(steps=6)), int(step)

    monkeypatch.setattr(checkpoint, "load", load)
    monkeypatch.setattr(checkpoint, "weights_of", lambda *_: "last")
    monkeypatch.setattr(checkpoint, "config_of", lambda _: types.SimpleNamespace(steps=6))
    return tmp_path


def lines(run):
    return [json.loads(line) for line in (run / "watch" / "shapes.jsonl").open()]


def test_each_checkpoint_once_until_the_last_step(run, capsys):
    for step in (1, 2):
        save(run, step)
    # 4 is removed before it is read, and 3 is damaged.
    evaluation = Evaluation(run, comes=[(4,), (3, 6)])
    results = watch.Results(run, "shapes", PROTOCOL)
    watch.watch(run, evaluation, results, every=0.01)
    results.close()
    assert evaluation.bound == 1
    assert [line["step"] for line in lines(run)] == [2, 1, 6]
    expected = {"step": 6, "weights": "last", "shapes/r@10": 6.0, "shapes/unknown": None}
    assert lines(run)[-1] == expected
    output = capsys.readouterr()
    assert "step 2, last weights\nr@10 2" in output.out
    assert output.out.endswith("the run has ended, with step 6\n")
    assert output.err == "step 3 is left out: a file of it is damaged\n"
    assert list((run / "events" / "watch_shapes").iterdir())


def test_it_goes_on_after_a_kill_where_it_was(run):
    for step in (1, 2, 6):
        save(run, step)
    results = watch.Results(run, "shapes", PROTOCOL)
    results.add(1, {"r@10": 1.0}, "last")
    results.close()
    with (run / "watch" / "shapes.jsonl").open("a") as file:
        file.write('{"step": 2, "weig')
    results = watch.Results(run, "shapes", PROTOCOL)
    assert results.steps == {1}
    watch.watch(run, Evaluation(run), results, every=0.01)
    results.close()
    assert [line["step"] for line in lines(run)] == [1, 6, 2]


def test_started_again_after_the_end_it_ends_at_once(run, capsys):
    save(run, 6)
    results = watch.Results(run, "shapes", PROTOCOL)
    results.add(6, {"r@10": 1.0}, "last")
    # With patience, so that a failure of this test is one.
    watch.watch(run, Evaluation(run), results, every=0.01, patience=1.0)
    results.close()
    assert capsys.readouterr().out == "the run has ended, with step 6\n"


def test_it_does_not_wait_for_ever_for_a_run_that_stopped(run, capsys):
    save(run, 2)
    results = watch.Results(run, "shapes", PROTOCOL)
    watch.watch(run, Evaluation(run), results, every=0.01, patience=0.1)
    results.close()
    assert capsys.readouterr().out.endswith("no new checkpoint for 0.1 s; ended\n")


def test_lines_of_another_protocol_are_not_mixed(run):
    watch.Results(run, "shapes", PROTOCOL).close()
    with pytest.raises(ConfigError, match=r"shapes\.json holds another protocol than --config"):
        watch.Results(run, "shapes", PROTOCOL | {"words": ("a",)})


def test_the_program_waits_for_a_run(repository, tmp_path):
    """A wrong command is one line, and a run without checkpoints is waited for."""
    given = [f"--workdir={tmp_path}", "--patience=0.001", "--every=0.01"]
    ran = programs.run("fgmm.eval.watch", *given, cwd=repository)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "--config is missing" in ran.stderr
    given.append("--config=configs/eval/retrieval.py:corpus=narrated_shapes")
    ran = programs.run("fgmm.eval.watch", *given, cwd=repository)
    assert ran.returncode == 0, ran.stderr
    assert "no new checkpoint" in ran.stdout
