"""Rules on paths of arrays."""

from fgmm.experiment.rules import by_rule, value_for

PARAMS = {"model": {"dense": {"kernel": 0, "bias": 0}}}


def test_rules_hold_in_order_for_whole_paths():
    rules = (("model/.*/bias", 0.0), (".*bias", 1.0), ("model.*", 2.0))
    values = by_rule(PARAMS, rules, 5.0)
    assert values == {"model": {"dense": {"kernel": 2.0, "bias": 0.0}}}
    assert by_rule(PARAMS, (("dense", 1.0),), 5.0)["model"]["dense"]["kernel"] == 5.0
    assert value_for("a/bias", rules, None) == 1.0
    assert value_for("a/kernel", rules, None) is None
