import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.experiment import optimizer
from fgmm.experiment.frozen import Frozen

PARAMS = {"model": {"dense": {"kernel": jnp.ones(3), "bias": jnp.ones(3)}}}


def options(**changes):
    return {**configs.defaults().optimizer.to_dict(), **changes}


def test_it_is_adamw_with_warmup_and_cosine():
    ours = optimizer.from_config(
        options(learning_rate=0.1, warmup_steps=2, weight_decay=((".*", 0.3),)), steps=10
    )
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10, 0.0)
    reference = optax.adamw(schedule, b1=0.9, b2=0.98, eps=1e-8, weight_decay=0.3)
    state, expected_state = ours.init(PARAMS), reference.init(PARAMS)
    for step in range(5):
        gradients = {"model": {"dense": {"kernel": jnp.arange(3.0) - step, "bias": jnp.ones(3)}}}
        updates, state = ours.update(gradients, state, PARAMS)
        rate = ours.schedule(step)
        expected, expected_state = reference.update(gradients, expected_state, PARAMS)
        for name in ("kernel", "bias"):
            np.testing.assert_allclose(
                -rate * updates["model"]["dense"][name],
                expected["model"]["dense"][name],
                rtol=1e-5,
            )


def test_learning_rate_and_decay_follow_their_rules():
    frozen = optimizer.from_config(
        options(
            warmup_steps=0,
            weight_decay=((".*", 0.0),),
            learning_rate_scale=((".*kernel", 0.0), (".*", 2.0)),
        ),
        steps=10,
    )
    gradients = {"model": {"dense": {"kernel": jnp.ones(3), "bias": jnp.ones(3)}}}
    updates, _ = frozen.update(gradients, frozen.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["model"]["dense"]["kernel"], np.zeros(3))
    np.testing.assert_allclose(updates["model"]["dense"]["bias"], 2.0, rtol=1e-5)


def test_what_is_frozen_is_not_moved_by_anything():
    held = Frozen((("model/dense/kernel", True), (".*", False)))
    ours = optimizer.from_config(options(weight_decay=((".*", 0.5),)), steps=200, frozen=held)
    free = optimizer.from_config(options(weight_decay=((".*", 0.5),)), steps=200)
    # A term without learned parameters is an empty node.
    params = {**PARAMS, "objective": {"term": {}}}
    gradients = {
        "model": {"dense": {"kernel": jnp.full(3, jnp.nan), "bias": jnp.ones(3)}},
        "objective": {"term": {}},
    }
    state = ours.init(params)
    assert [leaf.shape for leaf in jax.tree.leaves(state[0].inner_state.mu)] == [(3,)]
    updates, _ = ours.update(gradients, state, params)
    expected, _ = free.update(gradients, free.init(params), params)
    np.testing.assert_array_equal(updates["model"]["dense"]["kernel"], np.zeros(3))
    np.testing.assert_array_equal(
        updates["model"]["dense"]["bias"], expected["model"]["dense"]["bias"]
    )
    zeroed = held.zeroed(gradients)
    assert optax.tree.norm(zeroed) == pytest.approx(3**0.5)
    assert free.frozen.zeroed(gradients) is gradients


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_steps": 10}, "optimizer.warmup_steps=10 must be below steps=10"),
        ({"weight_decay": (("(", 0.1),)}, r"optimizer\.weight_decay holds .*unterminated"),
        ({"weight_decay": (".*",)}, r"each entry must be \(regex, number\)"),
        ({"learning_rate_scale": ((".*", "x"),)}, "holds .*: .x. is not a finite number"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        optimizer.from_config(options(**{"warmup_steps": 0, **changes}), steps=10)
