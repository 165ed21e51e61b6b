import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fgmm.eval.average_precision import (
    average_precision,
    mean_average_precision,
    mean_over_classes,
)


def corpus(seed=0, queries=60, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.random((queries, classes)) < (0.1, 0.3, 0.5, 0.0)
    # Few distinct values, so that many are equal.
    scores = np.round(labels * 0.4 + rng.random((queries, classes)), 1)
    return scores, labels


def test_it_is_that_of_scikit_learn_with_ties_and_with_weights():
    scores, labels = corpus()
    rng = np.random.default_rng(1)
    times = rng.integers(4, size=(60, 3))
    for k in range(3):
        found = average_precision(scores[:, k], labels[:, k], times)
        for weights, value in zip(times.T, found, strict=True):
            expected = average_precision_score(labels[:, k], scores[:, k], sample_weight=weights)
            assert value == pytest.approx(expected)


def test_the_mean_over_the_classes_that_occur():
    scores, labels = corpus()
    summary = mean_average_precision([(scores, labels)], "abcd")
    by_class = {k: v for k, v in summary.items() if k.startswith("average_precision/")}
    expected = average_precision_score(labels[:, :3], scores[:, :3], average=None)
    assert len(by_class) == 9
    for name, value in zip("abc", expected.tolist(), strict=True):
        own = [by_class[f"average_precision/{name}{end}"] for end in ("_low", "", "_high")]
        assert own[1] == pytest.approx(value)
        assert own[0] < own[1] < own[2]
    assert summary["mAP"] == pytest.approx(expected.mean())
    assert mean_over_classes(scores, labels) == pytest.approx(expected.mean())
    assert summary["mAP_low"] < summary["mAP"] < summary["mAP_high"]
    assert summary["chance_mAP"] == pytest.approx(labels[:, :3].mean())
    equal = mean_average_precision([(np.zeros_like(scores), labels)], "abcd")
    assert equal["mAP"] == pytest.approx(equal["chance_mAP"])


def test_scores_of_parts_are_not_compared_with_each_other():
    parts = [corpus(0), corpus(1)]
    each = [mean_average_precision([part], "abcd")["mAP"] for part in parts]
    shifted = [parts[0], (parts[1][0] + 100, parts[1][1])]
    assert mean_average_precision(shifted, "abcd")["mAP"] == pytest.approx(np.mean(each))


@pytest.mark.long
def test_the_interval_is_that_of_resampled_queries():
    scores, labels = corpus(queries=40)
    rng = np.random.default_rng((0, 0))
    drawn = rng.integers(40, size=(1000, 40))
    values = []
    for rows in drawn:
        there = [k for k in range(3) if labels[rows, k].any()]
        values.append(average_precision_score(labels[rows][:, there], scores[rows][:, there]))
    summary = mean_average_precision([(scores, labels)], "abcd")
    low, high = np.quantile(values, [0.025, 0.975])
    assert (summary["mAP_low"], summary["mAP_high"]) == pytest.approx((low, high))


def test_nan_is_the_lowest_and_nothing_to_find_is_an_error():
    labels = np.array([1, 0, 0], bool)
    ones = np.ones((3, 1), np.int64)
    assert average_precision(np.array([np.nan, 0.2, 0.1]), labels, ones)[0] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no query has a class"):
        mean_average_precision([(np.zeros((3, 2)), np.zeros((3, 2), bool))], "ab")
