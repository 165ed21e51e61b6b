"""The ratio of batches on results whose answer is known."""

import pytest

from fgmm.study.headline import headline, reached, rising
from fgmm.study.intervals import Measurement


def measured(mean, spread=0.001):
    return Measurement({0: mean - spread, 1: mean, 2: mean + spread})


def unpaired(mean):
    """Seeds that vary much, and not as those of others do."""
    return Measurement({0: mean + 0.1, 1: mean, 2: mean - 0.1})


COARSE = {"mean": {8: measured(0.3), 32: measured(0.5), 128: measured(0.7)}}


def test_the_largest_batch_that_fine_keeps_up_with():
    found = headline({8: measured(0.55)}, COARSE, 8)
    assert found.ratio == 4
    assert found.against == ("mean", 32)
    assert found.lead.mean == pytest.approx(0.05)
    assert found.gain.mean == pytest.approx(0.2)
    assert headline({8: measured(0.7)}, COARSE, 8).ratio == 16


def test_fine_that_keeps_up_with_none():
    found = headline({8: measured(0.4)}, COARSE, 8)
    assert found.ratio is None
    assert found.verdict == "behind coarse at 32"
    assert found.lead.mean == pytest.approx(-0.1)


def test_it_is_for_nothing_where_coarse_does_not_gain():
    coarse = {"mean": {8: measured(0.3), 32: unpaired(0.32), 128: unpaired(0.31)}}
    found = headline({8: measured(0.9)}, coarse, 8)
    assert found.ratio is None
    assert found.verdict == "batch does not matter there"
    assert headline({8: measured(0.9)}, coarse, 8, "width").verdict.startswith("width does not")
    assert not found.matters
    assert found.gain.mean == pytest.approx(0.02)


def test_it_does_not_count_where_coarse_falls_again():
    coarse = {"mean": {8: measured(0.3), 32: measured(0.5), 128: measured(0.2)}}
    found = headline({8: measured(0.6)}, coarse, 8)
    assert (found.ratio, found.against) == (4, ("mean", 32))


def test_the_best_coarse_arm_over_all_batches_up_to_there():
    # Another coarse arm is better at a smaller batch than any at 128.
    coarse = COARSE | {"max": {8: measured(0.3), 32: measured(0.8), 128: measured(0.6)}}
    found = headline({8: measured(0.75)}, coarse, 8)
    assert found.ratio is None
    assert found.against == ("max", 32)
    assert headline({8: measured(0.81)}, coarse, 8).ratio == 16


def test_there_has_to_be_something_to_compare():
    assert headline({16: measured(0.5)}, COARSE, 8) is None
    assert headline({16: measured(0.5)}, COARSE, 16) is None
    assert headline({128: measured(0.5)}, COARSE, 128) is None


def test_where_a_curve_comes_to_a_target():
    steps, values = [10, 20, 30], [0.1, 0.3, 0.2]
    assert reached(steps, values, 0.2) == pytest.approx(15)
    assert reached(steps, values, 0.05) == 10
    assert reached(steps, values, 0.3) == pytest.approx(20)
    assert reached(steps, values, 0.4) is None


def test_a_plateau():
    assert not rising([0.1, 0.5, 0.6, 0.7, 0.7, 0.705, 0.7, 0.708])
    assert rising([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert rising([0.5])
