"""Configs of earlier runs in the keys of today."""

import pytest

from configs import quickstart
from fgmm import config as configs
from fgmm.config.earlier_keys import brought_over
from fgmm.config.optimizer import UNDECAYED
from fgmm.experiment import optimizer

EARLIER = {
    "learning_rate": 2e-3,
    "warmup_steps": 100,
    "final_fraction": 0.0,
    "beta1": 0.9,
    "beta2": 0.98,
    "epsilon": 1e-8,
    "clip_norm": 1.0,
    "weight_decay": [[".*(bias|scale|temperature.*|null.*)$", 0.0], [".*", 0.01]],
    "learning_rate_scale": [[".*", 1.0]],
}


def earlier(rules=(), **changes):
    saved = configs.as_dict(quickstart.get_config("fine=info_nce"))
    saved["init_from"] = {"path": "a", "step": "latest", "rules": [list(rule) for rule in rules]}
    return {**saved, "optimizer": {**EARLIER, **changes}}


def test_a_run_with_an_earlier_optimizer_goes_on():
    current = quickstart.get_config("fine=info_nce")
    current.init_from.path = "a"
    current.optimizer.schedule.warmup = 100
    assert configs.differences(configs.with_new_keys(earlier()), current) == []
    changed = configs.with_new_keys(earlier(beta2=0.999, final_fraction=0.1))
    assert configs.differences(changed, current) == [
        "optimizer.b2: 0.999 -> 0.98",
        "optimizer.schedule.end: 0.1 -> 0.0",
    ]


def test_the_rule_of_what_has_no_decay_is_that_of_today():
    rules = [[".*(bias|scale|temperature.*|null.*)", 0.0], [".*kernel", 0.2], [".*", 0.001]]
    found = configs.with_new_keys(earlier(weight_decay=rules))["optimizer"]["weight_decay"]
    assert found == ((UNDECAYED, 0.0), (".*kernel", 0.2), (".*", 0.001))


def test_configs_of_today_stay_as_they_are():
    current = configs.plain(quickstart.get_config("fine=info_nce"))
    assert brought_over(configs.plain(quickstart.get_config("fine=info_nce"))) == current


@pytest.mark.parametrize(
    ("rules", "frozen", "free"),
    [
        ((("model/a/.*", "freeze"), (".*", "initialise")), ["model/a/x"], ["model/b"]),
        ((("model/a/x|b", "initialise"), (".*", "freeze")), ["model/b"], ["model/a/x", "b"]),
        ((("b", "initialise"), ("c", "skip"), ("c|b.*", "freeze")), ["c", "bb"], ["b", "a"]),
    ],
)
def test_what_was_frozen_is_frozen_by_the_optimizer(rules, frozen, free):
    config = configs.with_new_keys(earlier(rules, learning_rate_scale=[["model/.*", 0.5]]))
    made = optimizer.from_config(config["optimizer"], 1000)
    assert all(map(made.frozen.holds, frozen))
    assert not any(map(made.frozen.holds, free))
    assert made.scales[-1] == ("model/.*", 0.5)
    actions = [action for _, action in config["init_from"]["rules"]]
    assert actions == [{"freeze": "load"}.get(action, action) for _, action in rules]
