import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.transformer import Block, Residual, depth_rates, rotate


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    x = jax.random.normal(jax.random.key(0), (1, 7, 1, 8))
    turned = rotate(x)
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )
    same = jnp.broadcast_to(x[:, :1], x.shape)
    products = jnp.einsum("mlhe,mkhe->lk", rotate(same), rotate(same))
    np.testing.assert_allclose(products[0, 2], products[3, 5], rtol=1e-4)


@pytest.mark.parametrize("rotary", [False, True])
def test_positions_matter_only_if_rotary(rotary):
    x = jax.random.normal(jax.random.key(0), (1, 5, 8))
    block = Block(heads=2, rotary=rotary)
    variables = block.init(jax.random.key(1), x, None, False)
    y = block.apply(variables, x, None, False)
    backward = block.apply(variables, x[:, ::-1], None, False)[:, ::-1]
    assert (np.abs(y - backward).max() < 1e-5) != rotary


def test_stochastic_depth_drops_whole_branches():
    x, branch = jnp.zeros((400, 2, 3)), jnp.ones((400, 2, 3))
    add = Residual(dropout=0.0, stochastic_depth=0.25)
    y = np.asarray(add.apply({}, x, branch, True, rngs={"dropout": jax.random.key(0)}))
    by_clip = y.reshape(400, -1)
    assert (by_clip == by_clip[:, :1]).all()
    assert set(np.unique(by_clip.round(4))) == {np.float32(0), np.float32(1.3333)}
    assert 0.15 < (by_clip[:, 0] == 0).mean() < 0.35
    np.testing.assert_array_equal(add.apply({}, x, branch, False), branch)


def test_dropout_drops_elements():
    x, branch = jnp.zeros((40, 10, 10)), jnp.ones((40, 10, 10))
    add = Residual(dropout=0.25, stochastic_depth=0.0)
    y = np.asarray(add.apply({}, x, branch, True, rngs={"dropout": jax.random.key(0)}))
    assert 0.2 < (y == 0).mean() < 0.3
    assert ((y == 0).any(axis=(1, 2)) & (y > 0).any(axis=(1, 2))).all()


def test_the_rate_rises_with_depth():
    np.testing.assert_allclose(depth_rates(0.3, 4), [0.0, 0.1, 0.2, 0.3])
    assert depth_rates(0.3, 1) == [0.0]
