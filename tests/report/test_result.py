"""The evaluations of a run in one file."""

import json

import pytest

from fgmm.config import ConfigError
from fgmm.report import result


def write(workdir, label, step, seed=0, **results):
    report = {
        "evaluation": label,
        "step": step,
        "trained": {"examples_seen": step},
        "evaluated": {"jax": "1"},
        "protocol": {"label": label},
        "results": results,
        "config": {"seed": seed, "data": {"source": {"name": "narrated_shapes"}}},
    }
    (workdir / f"{label}-{step}.json").write_text(json.dumps(report))


def test_the_latest_step_with_every_evaluation(tmp_path):
    write(tmp_path, "retrieval", 5, a=0.1)
    write(tmp_path, "retrieval", 10, a=0.5)
    write(tmp_path, "probe-motion", 10, a=0.75)
    (tmp_path / "other-10.json").write_text("{}")
    gathered = result.gather(tmp_path)
    assert gathered["results"] == {"retrieval/a": 0.5, "probe-motion/a": 0.75}
    assert gathered["protocols"] == {
        "retrieval": {"label": "retrieval"},
        "probe-motion": {"label": "probe-motion"},
    }
    assert (gathered["step"], gathered["seed"], gathered["data"]) == (10, 0, "synthetic")
    assert result.gather(tmp_path, 5)["results"] == {"retrieval/a": 0.1}


def test_nothing_was_evaluated(tmp_path):
    with pytest.raises(ConfigError, match="no evaluation of any step"):
        result.gather(tmp_path)
    write(tmp_path, "retrieval", 5)
    with pytest.raises(ConfigError, match="no evaluation of 6 step"):
        result.gather(tmp_path, 6)


def test_evaluations_of_two_runs(tmp_path):
    write(tmp_path, "retrieval", 5)
    write(tmp_path, "probe", 5, seed=1)
    with pytest.raises(ConfigError, match=r"retrieval-5\.json is of a run with another config"):
        result.gather(tmp_path)
