import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.embeddings import Tokens
from fgmm.models.heads import Head, normalise, pooled, segmented


def test_normalise_is_safe_at_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])
    np.testing.assert_allclose(normalise(x)[0], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(normalise(x)[1], [0.0, 0.0])
    gradient = jax.grad(lambda x: normalise(x)[:, 0].sum())(x)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], [0.0, 0.0])
    assert np.isnan(normalise(jnp.array([jnp.nan, 1.0]))).all()


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_is_over_valid_features(pool):
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    mask = jnp.array([[True, False, True, True, False], [False] * 5])
    expected = getattr(np.asarray(x[0])[[0, 2, 3]], pool)(axis=0)
    result = pooled(x.at[0, 1].set(1e9), mask, pool)
    np.testing.assert_allclose(result[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(result[1], np.zeros(3))


def test_segments_of_audio_are_means_over_stretches_of_time():
    local = jnp.arange(2 * 6 * 2, dtype=jnp.float32).reshape(2, 12, 1)
    mask = jnp.array([[True] * 12, [False] * 12])
    segments = segmented(Tokens(local, mask, (6, 2)), 3)
    assert segments.grid == (1, 3)
    np.testing.assert_allclose(segments.local[0, :, 0], [1.5, 5.5, 9.5])
    np.testing.assert_array_equal(segments.mask, [[True] * 3, [False] * 3])
    assert segmented(Tokens(local, mask, (6, 2)), 100).grid == (1, 6)


@pytest.mark.parametrize("hidden", [0, 7])
def test_embeddings_have_length_one(hidden):
    head = Head(width=4, hidden=hidden, pool="mean")
    x, mask = jax.random.normal(jax.random.key(0), (2, 3, 5, 6)), jnp.ones((2, 3, 5), bool)
    embeddings, _ = head.init_with_output(jax.random.key(1), x, mask)
    assert (embeddings.local.shape, embeddings.coarse.shape) == ((2, 3, 5, 4), (2, 3, 4))
    for part in (embeddings.local, embeddings.coarse):
        np.testing.assert_allclose(jnp.linalg.norm(part, axis=-1), 1.0, rtol=1e-5)
