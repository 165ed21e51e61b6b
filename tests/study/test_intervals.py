"""Intervals against hand-computed values."""

import math

import numpy as np
import pytest

from fgmm.study.intervals import Measurement, bootstrap_error, difference, interval

STUDENT_2 = 4.302653  # 97.5% quantile with two degrees of freedom


def test_seeds_alone():
    found = interval(Measurement({0: 0.5, 1: 0.6, 2: 0.7}))
    assert found.mean == pytest.approx(0.6)
    assert found.half == pytest.approx(STUDENT_2 * 0.1 / math.sqrt(3), rel=1e-5)
    assert (found.seeds, found.above_zero) == (3, True)


def test_queries_alone():
    hits = np.array([1.0] * 40 + [0.0] * 60)
    found = interval(Measurement({0: 0.4}, {0: hits}))
    # The standard error of a mean of 100 outcomes with a variance of 0.24.
    assert found.half == pytest.approx(1.96 * math.sqrt(0.24 / 100), rel=0.05)
    assert bootstrap_error(np.full(7, 0.3)) == pytest.approx(0, abs=1e-12)


def test_nothing_is_known_of_one_number():
    found = interval(Measurement({0: 0.4}))
    assert math.isnan(found.half)
    assert not found.above_zero


def test_a_difference_is_paired_by_seed():
    a = Measurement({0: 0.5, 1: 0.7, 2: 0.9, 5: 0.0})
    b = Measurement({0: 0.4, 1: 0.5, 2: 0.6, 4: 1.0})
    found = difference(a, b)
    assert found.mean == pytest.approx(0.2)
    assert found.half == pytest.approx(STUDENT_2 * 0.1 / math.sqrt(3), rel=1e-5)
    assert found.seeds == 3
    assert difference(a, Measurement({9: 1.0})) is None


def test_a_difference_is_paired_by_query():
    hits = np.random.default_rng(0).random(200).round()
    other = hits.copy()
    other[:10] = 1 - other[:10]
    both = {0: hits}, {0: other}
    values = ({0: each[0].mean()} for each in both)
    a, b = (Measurement(value, queries) for value, queries in zip(values, both, strict=True))
    assert difference(a, a).half == 0
    # 190 of the 200 differences are 0, so they are far surer than the numbers themselves.
    per_query = hits - other
    assert difference(a, b).half == pytest.approx(1.96 * per_query.std() / math.sqrt(200), rel=0.06)
    assert difference(a, b).half < interval(a).half / 2


def test_both_sources_add_up_in_squares():
    hits = np.array([1.0] * 50 + [0.0] * 50)
    values = {0: 0.5, 1: 0.6}
    seeds = interval(Measurement(values)).half
    queries = interval(Measurement({0: 0.5}, {0: hits})).half
    found = interval(Measurement(values, {0: hits, 1: hits}))
    assert found.half == pytest.approx(math.hypot(seeds, queries))
