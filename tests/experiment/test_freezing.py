"""Statistics of any normalisation are held where a rule freezes them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.experiment.freezing import Freezing
from fgmm.models.layers import BatchNorm


class ByArgument(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(momentum=0.5, name="norm")(x, use_running_average=not train)


class ByField(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)


class Ours(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return BatchNorm(name="norm")(x, jnp.ones(len(x), bool), train)


class OfAnotherLab(nn.Module):
    """Its statistics and how it is told that it trains are its own."""

    training: bool

    @nn.compact
    def __call__(self, x):
        mean = self.variable("running", "mean", jnp.zeros, x.shape[-1:])
        if not self.training:
            return x - mean.value[None]
        if not self.is_initializing():
            mean.value = x.mean(0)
        return x - x.mean(0, keepdims=True)


class Foreign(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return OfAnotherLab(train, name="norm")(x)


class Untold(nn.Module):
    """Nothing says that it is in training: it always counts."""

    @nn.compact
    def __call__(self, x, train):
        del train
        count = self.variable("counts", "calls", jnp.zeros, ())
        if not self.is_initializing():
            count.value = count.value + 1
        return x


class Model(nn.Module):
    of: type

    @nn.compact
    def __call__(self, x, train):
        return self.of(name="first")(x, train) + self.of(name="second")(x, train)


def trained(of, frozen, x):
    """The result, and statistics before and after a step."""
    model = Model(of)
    variables = dict(model.init(jax.random.key(0), x, False))
    params, before = variables.pop("params", {}), variables
    before = jax.tree.map(lambda s: s + 0.25, before)
    with frozen.normalising():
        y, after = model.apply({"params": params, **before}, x, True, mutable=list(before))
    evaluated = model.apply({"params": params, **before}, x, False, mutable=list(before))[0]
    return y, evaluated, before, frozen.statistics(before, after)


def changed(before, after):
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
    paths = jax.tree_util.tree_leaves_with_path(same)
    return {at[1].key for at, equal in paths if not equal}


X = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)) * 3 + 1, jnp.float32)
KINDS = (ByArgument, ByField, Ours, Foreign)


@pytest.mark.parametrize("of", [*KINDS, Untold])
def test_frozen_statistics_stay_and_others_move(of):
    *_, before, after = trained(of, Freezing((("model/first/.*", True),)), X)
    assert changed(before, after) == {"second"}
    *_, before, after = trained(of, Freezing(), X)
    assert changed(before, after) == {"first", "second"}


@pytest.mark.parametrize("of", KINDS)
def test_a_frozen_normalisation_is_as_in_evaluation(of):
    y, evaluated, before, after = trained(of, Freezing(((".*", True),)), X)
    np.testing.assert_allclose(y, evaluated, rtol=1e-6)
    assert changed(before, after) == set()
    y, evaluated, *_ = trained(of, Freezing((("model/none", True),)), X)
    assert np.abs(y - evaluated).max() > 0.1


def test_a_field_is_as_it_was_behind_the_call():
    module = nn.BatchNorm(use_running_average=False)
    variables = module.init(jax.random.key(0), X)
    bound = module.bind(variables, mutable=["batch_stats"])
    with Freezing(((".*", True),)).normalising():
        bound(X)
    assert bound.use_running_average is False


def test_gradients_of_what_is_frozen_are_zero_and_never_nan():
    frozen = Freezing((("model/a", True), (".*", False)))
    tree = {"model": {"a": jnp.full(3, jnp.nan), "b": jnp.ones(3)}}
    zeroed = frozen.zeroed(tree)["model"]
    np.testing.assert_array_equal(zeroed["a"], np.zeros(3))
    assert zeroed["b"] is tree["model"]["b"]
    assert Freezing().zeroed(tree) is tree
    assert frozen.moving(tree) == {"model": {"a": False, "b": True}}
