import itertools

import numpy as np
import pytest

from fgmm.eval import time_spans


def iou_by_counting(one, other, steps=1000):
    """Of spans whose ends are multiples of 1 / steps."""
    inside = [{*range(round(a * steps), round(b * steps))} for a, b in (one, other)]
    return len(inside[0] & inside[1]) / len(inside[0] | inside[1])


def test_overlap_is_shared_over_covered_time_of_the_best_truth():
    rng = np.random.default_rng(0)
    spans = np.sort(rng.choice(1001, size=(20, 2), replace=True), axis=1) / 1000
    spans = spans[spans[:, 0] < spans[:, 1]]
    truths = [(0.1, 0.4), (0.35, 0.9), (0.95, 1.0)]
    found = time_spans.overlap(spans, truths)
    for span, value in zip(spans, found, strict=True):
        assert value == pytest.approx(max(iou_by_counting(span, truth) for truth in truths))
    assert time_spans.overlap(np.array([[0.2, 0.3]]), [(0.3, 0.5)]).tolist() == [0]
    assert time_spans.overlap(np.array([[0.2, 0.3]]), [(0.2, 0.3)]).tolist() == [1]


def test_all_spans_are_all_runs_of_cells():
    expected = {(i / 5, j / 5) for i, j in itertools.combinations(range(6), 2)}
    assert {tuple(span) for span in time_spans.all_spans(5).tolist()} == expected


@pytest.mark.parametrize(
    ("curve", "threshold", "expected"),
    [
        ([0, 1, 4, 3, 0], 0.5, (2, 4)),
        ([0, 1, 4, 3, 0], 0.75, (2, 4)),
        ([0, 1, 4, 3, 0], 0.76, (2, 3)),
        ([0, 1, 4, 3, 0], 0.0, (0, 5)),
        # What is high elsewhere does not belong to it.
        ([3, 0, 4, 4, 1], 0.5, (2, 4)),
        ([-5, -3, -4, -9, -9], 0.5, (0, 3)),
        # The first of equal peaks; and a flat curve says nothing.
        ([0, 2, 0, 2, 0], 0.9, (1, 2)),
        ([1, 1, 1, 1, 1], 0.9, (0, 5)),
    ],
)
def test_a_span_is_around_the_peak(curve, threshold, expected):
    found = time_spans.found_span(np.array(curve, float), threshold)
    assert found == (expected[0] / 5, expected[1] / 5)
