"""Updates against optax, rules, layer decay, the moving average."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.experiment import factories, optimizer

DENSE = {"kernel": jnp.arange(1.0, 13.0).reshape(4, 3) / 7, "bias": jnp.ones(3)}
PARAMS = {"model": {"dense": DENSE, "Embed_0": {"embedding": jnp.ones((5, 2))}}}
NO_DECAY = ((".*", 0.0),)
SECTION = configs.plain(configs.defaults().optimizer)


def options(name="adamw", **changes):
    entry = SECTION | {"name": name, **factories.checked(name, {})} | changes
    if isinstance(changes.get("schedule"), str):
        entry["schedule"] = SECTION["schedule"] | {"name": changes["schedule"]}
    return entry


def gradients(step):
    keys = iter(jax.random.split(jax.random.key(step), 3))
    return jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), PARAMS)


def moved(update, state, rate, steps=4):
    """Parameters after some steps."""
    params = PARAMS
    for step in range(steps):
        updates, state = update(gradients(step), state, params)
        params = jax.tree.map(lambda p, u: p + rate * u, params, updates)
    return params


def close(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)


# Options that optax has itself, and are rules here.
DECAY = {
    "adamw": {"weight_decay": 0.3},
    "nadamw": {"weight_decay": 0.3},
    "lion": {"weight_decay": 0.3},
    "adan": {"weight_decay": 0.3},
    "ademamix": {"weight_decay": 0.3},
    "lamb": {"weight_decay": 0.3},
    "lars": {"weight_decay": 0.3},
    "muon": {"weight_decay": 0.3, "adam_weight_decay": 0.3},
    "adafactor": {"weight_decay_rate": 0.3},
}


@pytest.mark.parametrize("name", factories.FACTORIES)
def test_an_update_is_that_of_optax(name):
    decay = ((".*", 0.3),) if name in DECAY else NO_DECAY
    ours = optimizer.from_config(options(name, weight_decay=decay), steps=10)
    given = {**factories.checked(name, {}), **DECAY.get(name, {})}
    if name == "muon":
        given["muon_weight_dimension_numbers"] = factories.matrices
    # Adafactor's decay has no learning rate; it is the same where that is 1.
    rate = 1.0 if name == "adafactor" else 0.01
    reference = factories.FACTORIES[name](learning_rate=rate, **given)
    expected = moved(reference.update, reference.init(PARAMS), 1.0)
    close(moved(ours.update, ours.init(PARAMS), -rate), expected)


def test_the_default_state_is_that_of_adam_alone():
    ours = optimizer.from_config(options(), steps=10)
    adam, *rest = ours.init(PARAMS)
    assert isinstance(adam, optax.ScaleByAdamState)
    assert jax.tree.leaves(rest) == []
    assert (options()["b1"], options()["b2"], options()["eps"]) == (0.9, 0.98, 1e-8)


def test_muon_takes_kernels_as_matrices_and_adam_the_rest():
    shapes = {
        "Conv_0": {"kernel": (3, 3, 4, 8), "bias": (8,)},
        "query": {"kernel": (16, 6, 8)},
        "out": {"kernel": (2, 8, 16)},
        "Conv_1": {"kernel": (3, 8, 4)},
        "Embed_0": {"embedding": (30, 16)},
        "temperature": (),
    }
    params = jax.tree.map(jnp.ones, shapes, is_leaf=lambda x: isinstance(x, tuple))
    numbers = factories.matrices(params)
    axes = {
        name: (entry["kernel"].reduction_axis, entry["kernel"].output_axis)
        for name, entry in numbers.items()
        if isinstance(entry, dict) and "kernel" in entry
    }
    assert axes == {
        "Conv_0": ((0, 1, 2), (3,)),
        "Conv_1": ((0, 1), (2,)),
        "query": ((0,), (1, 2)),
        "out": ((0, 1), (2,)),
    }
    assert numbers["Embed_0"]["embedding"] is numbers["Conv_0"]["bias"] is None
    ours = optimizer.from_config(options("muon", weight_decay=NO_DECAY), steps=10)
    noise = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)
    updates, _ = ours.update(noise, ours.init(params), params)
    # Near an orthogonal matrix, by a factor for its shape.
    of_conv = updates["Conv_0"]["kernel"].reshape(36, 8)
    assert np.linalg.svd(of_conv, compute_uv=False) == pytest.approx(np.ones(8), abs=0.5)
    # Adam's first update is a sign.
    sizes = jnp.abs(updates["Embed_0"]["embedding"])
    np.testing.assert_allclose(sizes, sizes[0, 0], rtol=1e-4)


def test_learning_rate_and_decay_follow_their_rules():
    scales = ((".*kernel", 0.0), (".*", 2.0))
    held = optimizer.from_config(options(weight_decay=NO_DECAY, learning_rate_scale=scales), 10)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = held.update(ones, held.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["model"]["dense"]["kernel"], np.zeros((4, 3)))
    np.testing.assert_allclose(updates["model"]["dense"]["bias"], 2.0, rtol=1e-5)

    decay = ((".*bias", 0.5), (".*/dense/.*", 0.25))
    decayed = optimizer.from_config(options("sgd", weight_decay=decay), 10)
    updates, _ = decayed.update(ones, decayed.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["model"]["dense"]["bias"], 1.5)
    np.testing.assert_allclose(updates["model"]["dense"]["kernel"], 1 + DENSE["kernel"] / 4)
    np.testing.assert_array_equal(updates["model"]["Embed_0"]["embedding"], np.ones((5, 2)))


def test_vectors_temperatures_and_noise_rates_have_no_decay_by_default():
    made = optimizer.from_config(options("sgd"), 10)
    params = {
        "model": {"class_token": jnp.ones(4), "norm": {"scale": jnp.ones(4)}},
        "objective": {"fine": {"noise_rate_logit": jnp.ones(()), "temperature": jnp.ones(())}},
        "kernel": jnp.ones((2, 2)),
    }
    updates, _ = made.update(jax.tree.map(jnp.zeros_like, params), made.init(params), params)
    assert float(updates.pop("kernel").min()) > 0
    assert not any(np.any(update) for update in jax.tree.leaves(updates))


def test_scales_by_layer_and_by_rule_are_multiplied():
    layers = {"encoders_video": [["model/Embed_0"], ["model/dense", "model/densely"]]}
    ours = optimizer.from_config(
        options(
            "sgd",
            weight_decay=NO_DECAY,
            layer_decay=0.5,
            learning_rate_scale=((".*bias", 3.0),),
        ),
        10,
        lambda: layers,
    )
    params = {**PARAMS, "objective": {"temperature": jnp.ones(())}}
    updates, _ = ours.update(jax.tree.map(jnp.ones_like, params), ours.init(params), params)
    assert jax.tree.map(lambda u: float(u.ravel()[0]), updates) == {
        "model": {"dense": {"kernel": 0.5, "bias": 1.5}, "Embed_0": {"embedding": 0.25}},
        "objective": {"temperature": 1.0},
    }


def test_the_average_is_that_of_its_definition():
    ours = optimizer.from_config(options(ema=0.75), 100)
    average = expected = np.float32(2.0)
    for step in range(40):
        new = np.float32(step % 3)
        decay = min(0.75, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * new
        average = ours.average({"a": average}, {"a": new}, jnp.int32(step))["a"]
    assert float(average) == pytest.approx(float(expected), rel=1e-5)
    assert optimizer.from_config(options(), 100).average(None, PARAMS, jnp.int32(0)) is None


@pytest.mark.parametrize("name", factories.FACTORIES)
def test_every_option_of_optax_can_be_said_or_is_a_rule(name):
    known = set(factories.checked(name, {}))
    assert all(
        isinstance(v, int | float | str | None) for v in factories.checked(name, {}).values()
    )
    left = set(inspect.signature(factories.FACTORIES[name]).parameters) - known
    assert left <= factories._FIXED
    for option, value in factories.checked(name, {}).items():
        if isinstance(value, float):
            with pytest.raises(ConfigError, match=f"^optimizer.{option}=-1.0 must be "):
                optimizer.from_config(options(name, **{option: -1.0}), 10)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lion", {"eps": 1e-8}, r"eps=1e-08 is unknown; allowed: b1, b2$"),
        ("adamw", {"b1": 1.5}, "b1=1.5 must be at least 0 and below 1"),
        ("adamw", {"b1": 1.0}, "b1=1.0 must be at least 0 and below 1"),
        ("muon", {"beta": 1.0}, "beta=1.0 must be at least 0 and below 1"),
        ("sgd", {"momentum": 1.5}, "momentum=1.5 must be from 0 to 1"),
        ("adamw", {"eps": 0.0}, "eps=0.0 must be above 0"),
        ("sgd", {"momentum": "high"}, "momentum='high' is not of type float"),
        ("sgd", {"nesterov": 1}, "nesterov=1 is not of type bool"),
        ("muon", {"preconditioning": "x"}, "preconditioning='x' is unknown; allowed: frobenius"),
        ("adamw", {"weight_decay": (("(", 0.1),)}, "weight_decay holds .*unterminated"),
        ("adamw", {"weight_decay": (".*",)}, r"weight_decay holds .*must be \(regex, number\)"),
        (
            "adamw",
            {"weight_decay": ((".*", "frozen"),)},
            "weight_decay holds .*finite number",
        ),
        ("adamw", {"weight_decay": ((".*", float("nan")),)}, "weight_decay .*finite number"),
        ("adamw", {"weight_decay": ((".*", -0.1),)}, "weight_decay .*number of at least 0$"),
        ("adamw", {"learning_rate_scale": ((".*", "x"),)}, ".*of at least 0, or 'frozen'"),
        ("adamw", {"learning_rate_scale": ((".*", -1.0),)}, ".*of at least 0, or 'frozen'"),
        ("adamw", {"learning_rate_scale": ((1, 1.0),)}, r".*\(regex, number or 'frozen'\)"),
    ],
)
def test_wrong_options_are_named(name, changes, message):
    with pytest.raises(ConfigError, match=rf"^optimizer\.{message}") as caught:
        optimizer.from_config(options(name, **changes), steps=10)
    assert "\n" not in str(caught.value)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ConfigError, match=r"name='adamq' is unknown; allowed: adafactor, adamw"):
        optimizer.from_config({**options(), "name": "adamq"}, steps=10)


def test_a_rule_that_matches_nothing_is_named_with_some_paths():
    statistics = {"batch_stats": {"BatchNorm_0": {"mean": jnp.ones(3)}}}

    def check(rule):
        made = optimizer.from_config(options(learning_rate_scale=(rule,)), 10)
        made.check_matches(PARAMS, statistics)

    check((".*dense.*", 0.5))
    check((".*/mean", "frozen"))
    with pytest.raises(ConfigError) as caught:
        check(("video", "frozen"))
    assert str(caught.value) == (
        "optimizer.learning_rate_scale: ('video', 'frozen') matches no path; the regex must match "
        "the whole path, such as model/Embed_0/embedding, model/dense/bias, model/dense/kernel, "
        "model/BatchNorm_0/mean"
    )
    made = optimizer.from_config(options(weight_decay=((".*/mean", 0.0), (".*", 0.1))), 10)
    with pytest.raises(ConfigError, match=r"weight_decay: \('\.\*/mean', 0\.0\) matches no path"):
        made.check_matches(PARAMS, statistics)
    # A model need not have what the default rules name.
    optimizer.from_config(options(), 10).check_matches({"kernel": jnp.ones(2)}, {})
