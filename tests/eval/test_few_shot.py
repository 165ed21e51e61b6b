import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from configs import quickstart
from fgmm.config import ConfigError
from fgmm.eval import few_shot
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {"name": "tests.eval.labelled_fixture", "recordings": 30, "windows": 2}


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(shrunken(quickstart.get_config("fine=none"), pair="audio_text"))


def few(**options):
    given = {"source": SOURCE, "label": "colour", "modality": "audio", "batch_size": 16, "folds": 3}
    return few_shot.Evaluation(**given | {"shots": (1, 2), "draws": 6} | options)


def test_it_is_what_loops_over_draws_give(experiment):
    bound = few().bind(experiment)
    result = bound(jax.jit(experiment.init)(7))
    assert few_shot.Evaluation.table(few(), result).count("untrained") == 2

    def features(state):
        (averages,), _, _ = bound._features.scored(state, lambda x, valid: {})
        return averages.values

    labels, classes = bound.recordings.labels, len(bound.recordings.classes)
    for prefix, seed in (("", 7), ("untrained/", experiment.config.seed)):
        x = features(jax.jit(experiment.init)(seed))
        for k in (1, 2):
            accuracies = []
            for draw in range(6):
                test = bound.fold == draw % 3
                mean, spread = x[~test].mean(axis=0), x[~test].std(axis=0)
                z = (x - mean) / np.where(spread > 0, spread, 1)
                chosen = bound._examples(np.flatnonzero(~test), k, draw)
                assert np.bincount(labels[chosen]).tolist() == [k] * classes
                assert not test[chosen].any()
                fitted = LogisticRegression(max_iter=1000).fit(z[chosen], labels[chosen])
                accuracies.append(np.mean(fitted.predict(z[test]) == labels[test]))
            name = f"{prefix}shots_{k}/accuracy"
            assert result[name] == pytest.approx(np.mean(accuracies), abs=1e-9)
            assert result[f"{name}_spread"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-9)
    assert result["shots_1/chance_accuracy"] == 1 / classes


def test_draws_differ_and_are_the_same_for_the_same_seed(experiment):
    first, again, other = (few(seed=seed).bind(experiment) for seed in (0, 0, 1))
    candidates = np.flatnonzero(first.fold != 0)
    drawn = [first._examples(candidates, 2, draw).tolist() for draw in range(6)]
    assert len({tuple(examples) for examples in drawn}) > 1
    assert [again._examples(candidates, 2, draw).tolist() for draw in range(6)] == drawn
    assert [other._examples(candidates, 2, draw).tolist() for draw in range(6)] != drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": ()}, r"shots=\(\) must hold at least one number"),
        ({"shots": (0,)}, r"shots=\(0,\) must be"),
        (
            {"shots": (1, 29)},
            r"shots=29 is more than the \d+ recordings of class '\w+' outside fold",
        ),
        ({"draws": 1}, "draws=1 must be at least 2"),
        ({"label": "smell"}, "label='smell' is unknown"),
        ({"modality": "video"}, "no video encoder"),
    ],
)
def test_errors_are_one_line(experiment, options, message):
    with pytest.raises(ConfigError, match=message):
        few(**options).bind(experiment)
