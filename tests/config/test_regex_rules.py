"""Rules of a config."""

import math

import pytest

from fgmm.config import ConfigError
from fgmm.config.regex_rules import checked_rules, number


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
