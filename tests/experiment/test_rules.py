"""Rules on paths of arrays."""

import math

import pytest

from fgmm.config import ConfigError
from fgmm.experiment.rules import by_rule, checked_rules, number, value_for

PARAMS = {"model": {"dense": {"kernel": 0, "bias": 0}}}


def test_rules_hold_in_order_for_whole_paths():
    rules = (("model/.*/bias", 0.0), (".*bias", 1.0), ("model.*", 2.0))
    values = by_rule(PARAMS, rules, 5.0)
    assert values == {"model": {"dense": {"kernel": 2.0, "bias": 0.0}}}
    assert by_rule(PARAMS, (("dense", 1.0),), 5.0)["model"]["dense"]["kernel"] == 5.0
    assert value_for("a/bias", rules, None) == 1.0
    assert value_for("a/kernel", rules, None) is None


def test_rules_of_a_config_become_pairs():
    given = [[".*bias", 0], (".*", 0.5)]
    assert checked_rules(given, "a.b", number, "number") == ((".*bias", 0.0), (".*", 0.5))
    assert checked_rules((("x", "3"),), "a.b", int, "number") == (("x", 3),)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (".*", r"a\.b='\.\*' must be a list of \(regex, number\)"),
        ((".*", 0.5), r"a\.b holds '\.\*'; each entry must be \(regex, number\)"),
        ((("x", 1, 2),), r"a\.b holds \('x', 1, 2\); each entry"),
        (((1, 2),), r"a\.b holds \(1, 2\); each entry"),
        ((("(", 1.0),), r"a\.b holds \('\(', 1\.0\): missing \)"),
        ((("x", "y"),), r"a\.b holds \('x', 'y'\): 'y' is not a finite number"),
        ((("x", math.nan),), "nan is not a finite number"),
        ((("x", True),), "True is not a finite number"),
    ],
)
def test_a_wrong_rule_is_named_with_its_key(rules, message):
    with pytest.raises(ConfigError, match=message):
        checked_rules(rules, "a.b", number, "number")
