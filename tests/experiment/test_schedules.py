"""Learning rates at the corners of a run."""

import numpy as np
import optax
import pytest

from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.config.optimizer import SCHEDULES
from fgmm.experiment import schedules


def schedule(steps=100, peak=0.4, **changes):
    options = {**configs.plain(configs.defaults().optimizer.schedule), "warmup": 0.0, **changes}
    return schedules.schedule(options, peak, steps)


def values(made, *at):
    return [pytest.approx(float(made(step)), abs=1e-7) for step in at]


def test_the_default_is_optax_s_warmup_and_cosine():
    made = schedule(warmup=20, end=0.25)
    expected = optax.warmup_cosine_decay_schedule(0.0, 0.4, 20, 100, 0.1)
    at = np.arange(101)
    np.testing.assert_array_equal(made(at), expected(at))
    assert values(made, 0, 10, 20, 60, 100) == [0.0, 0.2, 0.4, 0.25, 0.1]


def test_the_other_shapes():
    assert values(schedule(name="linear", warmup=20, end=0.5), 0, 10, 20, 60, 100) == [
        *(0.0, 0.2, 0.4, 0.3, 0.2)
    ]
    assert values(schedule(name="constant", warmup=0.1), 0, 5, 10, 99) == [0.0, 0.2, 0.4, 0.4]
    # At four times the warmup, half of the peak.
    assert values(schedule(name="rsqrt", warmup=10), 5, 10, 40, 90) == [0.2, 0.4, 0.2, 0.4 / 3]
    assert values(schedule(name="rsqrt"), 0, 1, 4) == [0.4, 0.4, 0.2]


def test_a_cooldown_is_a_line_over_the_last_steps():
    made = schedule(name="constant", warmup=10, cooldown=0.2)
    assert values(made, 10, 80, 90, 95, 100) == [0.4, 0.4, 0.2, 0.1, 0.0]
    made = schedule(name="constant", cooldown=20, end=0.5)
    assert values(made, 80, 90, 100) == [0.4, 0.3, 0.2]
    # A share that is no whole step of a short run.
    assert values(schedule(2, name="constant", cooldown=0.2, end=0.1), 0, 2) == [0.4, 0.4]
    made = schedule(name="rsqrt", warmup=25, cooldown=50)
    assert values(made, 25, 50, 100) == [0.4, 0.4 * 0.5**0.5, 0.0]
    assert values(made, 75) == [0.4 * (1 / 3) ** 0.5 / 2]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 0), (30, 3), (1200, 120)])
def test_by_default_a_tenth_is_warmup_however_short_the_run(name, steps, warmup):
    made = schedule(steps, name=name, warmup=configs.defaults().optimizer.schedule.warmup)
    assert values(made, warmup) == [0.4]
    assert all(float(made(step)) < 0.4 for step in range(warmup))
    assert all(0 < float(made(step)) <= 0.4 + 1e-7 for step in range(max(warmup, 1), steps, 7))


@pytest.mark.parametrize(
    ("value", "steps", "expected"),
    [(0, 10, 0), (3, 10, 3), (3.0, 10, 3), (0.29, 100, 29), (0.99, 30, 29), (0.5, 1, 0)],
)
def test_steps_as_they_are_or_as_a_share(value, steps, expected):
    assert schedules.steps_of(value, steps, "key") == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup": 100}, "warmup=100 must be below steps=100"),
        ({"warmup": 1.5}, "warmup=1.5 must be whole steps, or a share of steps below 1"),
        ({"cooldown": 5}, "cooldown=5 must be 0 for cosine"),
        ({"cooldown": 1e-3}, "cooldown=0.001 must be 0 for cosine"),
        ({"name": "rsqrt", "end": 0.1}, "end=0.1 needs optimizer.schedule.cooldown"),
        (
            {"name": "constant", "warmup": 0.5, "cooldown": 60},
            "warmup=0.5 and optimizer.schedule.cooldown=60 are 50 and 60 steps, together more",
        ),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(ConfigError, match=f"^optimizer.schedule.{message}"):
        schedule(**changes)
