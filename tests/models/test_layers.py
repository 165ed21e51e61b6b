import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgmm.models.layers import BatchNorm, ConvBlock2D, max_pool, rematted


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(1, 3, 2), (8, 3, 2), (7, 3, 2), (6, 4, 3), (5, 3, 1), (5, 2, 3)]
)
def test_pools_of_same_padding(size, kernel, stride):
    x = jax.random.normal(jax.random.key(size), (2, size, 3)) - 3.0
    expected = nn.max_pool(x, (kernel,), (stride,), "SAME")
    np.testing.assert_array_equal(max_pool(x, 1, kernel, stride), expected)


@pytest.mark.parametrize(("size", "windows"), [(4, [1, 3]), (5, [1, 3, 4]), (1, [0])])
def test_pools_with_padding_before(size, windows):
    """Windows of 3 that start at -1, 1, 3: the last element of each, where it exists."""
    x = jnp.arange(float(size)).reshape(1, size, 1)
    np.testing.assert_array_equal(max_pool(x, 1, 3, 2, low=1)[0, :, 0], windows)


def test_the_gradient_of_a_pool_goes_to_the_largest():
    x = jnp.array([3.0, 1.0, 2.0, 5.0]).reshape(1, 4, 1)
    gradient = jax.grad(lambda x: max_pool(x, 1, 2, 2).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, 0], [1, 0, 0, 1])


def test_statistics_of_a_sharded_batch_are_those_of_the_whole():
    """On 8 devices, with masked clips, unevenly: equal to one device."""
    x = jax.random.normal(jax.random.key(0), (16, 3, 4)) * 2 + 1
    x = x.at[:2].add(5.0)
    mask = jnp.arange(16) % 5 != 0
    norm = BatchNorm()
    variables = norm.init(jax.random.key(1), x, mask, False)

    def loss(variables, x, mask):
        y, updates = norm.apply(variables, x, mask, True, mutable=["batch_stats"])
        return (jnp.sin(y) * mask[:, None, None]).sum(), (y, updates)

    step = jax.jit(jax.value_and_grad(loss, argnums=1, has_aux=True))
    whole = step(variables, x, mask)
    devices = jax.devices()
    assert len(devices) == 8
    by_clip = NamedSharding(Mesh(np.array(devices), ("clips",)), PartitionSpec("clips"))
    sharded = step(variables, *jax.device_put((x, mask), by_clip))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, sharded
    )
    valid = np.asarray(x)[np.asarray(mask)]
    stats = sharded[0][1][1]["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * valid.mean(axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * valid.var(axis=(0, 1)), rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("valid", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]])
def test_normalisation_is_that_of_flax(dtype, tolerance, valid):
    key = jax.random.key(2)
    x = (3 + 2 * jax.random.normal(key, (4, 5, 6, 7))).astype(dtype)
    weights = jax.random.normal(jax.random.key(3), x.shape)
    mask = jnp.array(valid, bool)
    params = {"scale": jnp.linspace(0.5, 1.5, 7), "bias": jnp.linspace(-1, 1, 7)}
    statistics = {"mean": jnp.full(7, 0.3), "var": jnp.full(7, 1.7)}
    # Without a valid clip all of them count.
    counted = jnp.where(mask.any(), mask, True).reshape(4, 1, 1, 1)
    flax_norm = nn.BatchNorm(momentum=0.9, dtype=dtype)

    def ours(params, x, train):
        variables = {"params": {"BatchNorm_0": params}, "batch_stats": {"BatchNorm_0": statistics}}
        y, new = BatchNorm(dtype=dtype).apply(variables, x, mask, train, mutable=["batch_stats"])
        return y, new["batch_stats"]["BatchNorm_0"]

    def theirs(params, x, train):
        y, new = flax_norm.apply(
            {"params": params, "batch_stats": statistics},
            x,
            mask=counted,
            use_running_average=not train,
            mutable=["batch_stats"],
        )
        return y, new["batch_stats"]

    def outcome(norm, train):
        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def loss_and_gradients(params, x):
            y, new = norm(params, x, train)
            return jnp.sum(y * weights), (y, new)

        (_, auxiliary), gradients = loss_and_gradients(params, x)
        assert auxiliary[0].dtype == gradients[1].dtype == dtype
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (*auxiliary, gradients))

    for train in (True, False):
        close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=10 * tolerance)
        jax.tree.map(close, outcome(ours, train), outcome(theirs, train))


def test_the_first_rule_that_matches_the_whole_name_holds():
    rules = (("mixed_4.", "everything_saveable"), ("mixed.*", "nothing_saveable"))
    assert rematted(ConvBlock2D, "mixed_4b", rules) is ConvBlock2D
    assert rematted(ConvBlock2D, "mixed_5b", rules) is not ConvBlock2D
    assert rematted(ConvBlock2D, "a_mixed_5b", rules) is ConvBlock2D


def test_a_block_computed_again_has_the_same_gradient():
    x, mask = jax.random.normal(jax.random.key(0), (2, 6, 6, 3)), jnp.ones(2, bool)
    gradients = []
    for rules in ((), ((".*", "nothing_saveable"),)):
        block = rematted(ConvBlock2D, "block", rules)(4)
        variables = jax.jit(block.init, static_argnums=3)(jax.random.key(1), x, mask, False)

        def loss(params, block=block, stats=variables["batch_stats"]):
            y, _ = block.apply(
                {"params": params, "batch_stats": stats}, x, mask, True, mutable=["batch_stats"]
            )
            return jnp.square(y).sum()

        gradients.append(jax.jit(jax.grad(loss))(variables["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *gradients)
