import math

import pytest

from fgmm.config import ConfigError
from fgmm.train.kept import Kept


def kept(mode="max", best=1):
    options = {"keep_last": 2, "keep_best": best, "best_metric": "val/loss", "best_mode": mode}
    return Kept(options)


SAVED = {1: {"val/loss": 0.5}, 2: {"val/loss": 0.9}, 3: {"val/loss": 0.5}, 4: None, 5: None}


@pytest.mark.parametrize(
    ("mode", "best", "expected"),
    # Of equal scores the later one is the better.
    [("max", 1, {2, 4, 5}), ("min", 1, {3, 4, 5}), ("min", 2, {1, 3, 4, 5}), ("max", 0, {4, 5})],
)
def test_the_last_and_the_best(mode, best, expected):
    assert kept(mode, best).steps(SAVED) == expected


def test_scores_that_come_later_count():
    found = kept()
    assert found.add(4, {"val/loss": 0.8, "loss": 1.0}) == {"val/loss": 0.8}
    assert found.add(5, {"loss": 1.0}) is None
    assert found.steps(SAVED) == {2, 4, 5}
    found.add(3, {"val/loss": 1.0})
    assert found.steps(SAVED) == {3, 4, 5}
    found.add(3, {"val/loss": math.nan})
    assert found.steps(SAVED) == {2, 4, 5}


def test_a_number_that_is_not_there_is_named_with_those_that_are():
    scores = {f"val/r@{n}": 0.0 for n in range(10)} | {"val/losses": 0.0}
    with pytest.raises(ConfigError, match=r"reports val/losses, val/r@0, .+ and 1 more") as error:
        kept().check("val", scores)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="it reports none"):
        kept().check("val", {})


def test_a_number_that_was_there_may_be_missing_later():
    found = kept()
    found.check("other", {"other/x": 1.0})
    found.check("val", {"val/loss": 1.0})
    found.check("val", {"val/x": 1.0})
