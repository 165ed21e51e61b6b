"""The evaluations of a run in one file."""

import json

import pytest

from fgmm.config import ConfigError
from fgmm.report import result


def write(workdir, label, step, seed=0, weights="last", **results):
    report = {
        "evaluation": label,
        "step": step,
        "weights": weights,
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
    for name, text in (("other", "{}"), ("broken", '{"step"'), ("list", "[1]")):
        (tmp_path / f"{name}-10.json").write_text(text)
    gathered = result.gather(tmp_path)
    assert gathered["results"] == {"retrieval/a": 0.5, "probe-motion/a": 0.75}
    assert gathered["protocols"] == {
        "retrieval": {"label": "retrieval"},
        "probe-motion": {"label": "probe-motion"},
    }
    assert (gathered["step"], gathered["seed"], gathered["data"]) == (10, 0, "synthetic")
    assert result.gather(tmp_path, 5)["results"] == {"retrieval/a": 0.1}


def test_nothing_was_evaluated(tmp_path):
    with pytest.raises(ConfigError, match="has no evaluation; run"):
        result.gather(tmp_path)
    write(tmp_path, "retrieval", 5)
    with pytest.raises(ConfigError, match="has no evaluation of step 6; run"):
        result.gather(tmp_path, 6)


def test_evaluations_of_two_runs(tmp_path):
    write(tmp_path, "retrieval", 5)
    write(tmp_path, "probe", 5, seed=1)
    with pytest.raises(ConfigError, match=r"retrieval-5\.json is of a run with another config"):
        result.gather(tmp_path)


def test_the_weights_of_each_evaluation_are_kept_and_not_mixed(tmp_path):
    write(tmp_path, "retrieval", 5)
    found = result.gather(tmp_path)
    assert found["weights"] == {"retrieval": "last"}
    result.check_weights(found)
    write(tmp_path, "probe", 5, weights="ema")
    found = result.gather(tmp_path)
    assert found["weights"] == {"probe": "ema", "retrieval": "last"}
    message = "probe was evaluated with the weights 'ema' and retrieval with 'last'; move"
    with pytest.raises(ConfigError, match=message):
        result.check_weights(found)


SHAPES, ESC = {"name": "narrated_shapes"}, {"name": "esc50", "root": "x"}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (ESC, "real"),
        ({"name": "wrong_captions", "source": SHAPES}, "synthetic"),
        ({"name": "folds", "source": {"name": "folds", "source": SHAPES}}, "synthetic"),
        ({"name": "mixture", "sources": {"a": SHAPES, "b": {**SHAPES, "seed": 1}}}, "synthetic"),
        ({"name": "mixture", "sources": {"a": SHAPES, "b": ESC}}, "mixed"),
    ],
)
def test_a_source_around_others_is_as_real_as_they_are(source, kind):
    assert result.kind_of(source) == kind
