"""What masks say reaches the losses: what is not there is no positive and no negative."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.losses import (
    Scores,
    clip_similarity,
    fine_grained_nce,
    info_nce,
    matched_weights,
    mil_nce,
    pooled_similarity,
    sigmoid,
    sparc,
)

B, N, P, D = 6, 5, 3, 8
CLIPS = np.arange(B)


def sides():
    """Unit vectors; clip 1 shows nothing, clip 4 has no caption, and clip 2 one phrase less."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(B, n, D)).astype(np.float32) for n in (N, P))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    x_mask, y_mask = np.ones((B, N), bool), np.ones((B, P), bool)
    x_mask[1] = y_mask[4] = y_mask[2, 1] = False
    return x, y, x_mask, y_mask


def scored(contrast, direction="y_to_x", **options):
    def loss(x, y, x_mask, y_mask, **more):
        pooling = {"pool": "softmax", "temperature": 0.1, "direction": direction}
        S = clip_similarity(x, y, x_mask, y_mask, **pooling)
        return contrast(S, temperature=0.07, **options, **more)

    return loss


def pooled(contrast, **options):
    def loss(x, y, x_mask, y_mask, **more):
        s = pooled_similarity(x, y, x_mask, y_mask, pool="logsumexp", temperature=0.1)
        return contrast(s, temperature=0.07, **options, **more)

    return loss


def matched(x, y, x_mask, y_mask, **more):
    s = pooled_similarity(x, y, x_mask, y_mask, pool="max")
    weights = matched_weights(s, temperature=0.2, null_score=0.1)
    return fine_grained_nce(s, temperature=0.07, weights=weights, **more)


def sparse(x, y, x_mask, y_mask, **more):
    return sparc(x, y, x_mask, y_mask, temperature=0.07, **more)


LOSSES = {
    "info_nce": scored(info_nce),
    "info_nce both ways": scored(info_nce, "symmetric"),
    "sigmoid": scored(sigmoid, "x_to_y", bias=-2.0),
    "mil_nce": pooled(mil_nce),
    "fine_grained_nce": pooled(fine_grained_nce),
    "matched weights": matched,
    "sparc": sparse,
}


@pytest.mark.parametrize("name", LOSSES)
def test_clips_without_one_side_are_as_if_absent(name):
    """Without a word to the contrast, and whatever hides behind the masks."""
    loss = jax.jit(jax.value_and_grad(LOSSES[name], argnums=(0, 1)))
    x, y, x_mask, y_mask = sides()
    there = CLIPS[x_mask.any(1) & y_mask.any(1)]
    assert len(there) == 4
    expected, of_there = loss(*(v[there] for v in (x, y, x_mask, y_mask)))
    hidden_x, hidden_y = (
        np.where(mask[:, :, None], v, np.nan) for v, mask in ((x, x_mask), (y, y_mask))
    )
    found, gradients = loss(hidden_x, hidden_y, x_mask, y_mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for gradient, wanted in zip(gradients, of_there, strict=True):
        np.testing.assert_allclose(gradient[there], wanted, rtol=1e-4, atol=1e-6)
        assert not np.any(np.delete(gradient, there, axis=0))
        assert np.any(gradient[there])

    each = jax.jit(LOSSES[name], static_argnames="reduction")
    assert not np.any(each(x, y, x_mask, y_mask, reduction="none")[np.array([1, 4])])
    for nothing in ((x_mask & False, y_mask), (x_mask, y_mask & False)):
        value, gradients = loss(x, y, *nothing)
        assert value == 0
        assert not any(np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("name", LOSSES)
def test_valid_excludes_more_than_masks_do(name):
    x, y, x_mask, y_mask = sides()
    valid = CLIPS != 3
    there = CLIPS[valid & x_mask.any(1) & y_mask.any(1)]
    expected = LOSSES[name](*(v[there] for v in (x, y, x_mask, y_mask)))
    gradient = jax.grad(LOSSES[name], argnums=(0, 1))
    found = LOSSES[name](x, y, x_mask, y_mask, valid=valid)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not any(np.any(g[3]) for g in gradient(x, y, x_mask, y_mask, valid=valid))
    # Embeddings that may be NaN are excluded by their masks.
    x[3] = y[3] = np.nan
    masks = x_mask & valid[:, None], y_mask & valid[:, None]
    np.testing.assert_allclose(LOSSES[name](x, y, *masks), expected, rtol=1e-5)
    assert all(np.all(np.isfinite(g)) for g in gradient(x, y, *masks))


@pytest.mark.parametrize(
    "contrast",
    [
        lambda s, **options: info_nce(s[:, :, 0], **options),
        lambda s, **options: sigmoid(s[:, :, 0], bias=-1.0, **options),
        mil_nce,
        fine_grained_nce,
        lambda s, valid, **options: fine_grained_nce(
            s,
            valid=valid,
            weights=jnp.where(valid[:, None], jnp.ones((B, P)), jnp.nan),
            **options,
        ),
    ],
)
def test_excluded_scores_may_be_nan(contrast):
    """And so may weights of what is excluded."""
    valid = CLIPS != 3
    s = np.random.default_rng(1).normal(size=(B, B, P)).astype(np.float32)
    spoilt = s.copy()
    spoilt[3] = spoilt[:, 3] = np.nan
    compute = jax.value_and_grad(lambda s: contrast(s, temperature=0.5, valid=valid))
    (value, gradient), (expected, wanted) = compute(spoilt), compute(s)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, wanted)
    assert not np.any(gradient[3])
    assert not np.any(gradient[:, 3])


def test_a_weight_of_a_masked_phrase_may_be_nan():
    s = np.random.default_rng(2).normal(size=(B, B, P)).astype(np.float32)
    mask = np.ones((B, P), bool)
    mask[0, 1] = False
    weights = np.where(mask, 0.3, np.nan).astype(np.float32)

    def loss(s, weights):
        return fine_grained_nce(s, temperature=0.1, mask=mask, weights=weights)

    gradients = jax.grad(loss, argnums=(0, 1))(s, weights)
    clean = jax.grad(loss, argnums=(0, 1))(s, np.nan_to_num(weights))
    for found, expected in zip(gradients, clean, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_scores_know_what_masks_left():
    x, y, x_mask, y_mask = sides()
    s = pooled_similarity(x, y, x_mask, y_mask, pool="max")
    S = clip_similarity(x, y, x_mask, y_mask, pool="max")
    assert s.values.shape == (B, B, P)
    assert S.values.shape == (B, B)
    np.testing.assert_array_equal(s.y_valid, y_mask)
    for scores in (s, S):
        np.testing.assert_array_equal(scores.x_valid, CLIPS != 1)
        np.testing.assert_array_equal(scores.valid, (CLIPS != 1) & (CLIPS != 4))
    np.testing.assert_array_equal(S.y_valid, CLIPS != 4)
    assert clip_similarity(x, y, pool="max").valid is None
    np.testing.assert_array_equal(clip_similarity(x, y, x_mask, pool="max").valid, CLIPS != 1)


def test_scores_are_a_pytree_that_may_be_made_anew():
    x, y, x_mask, y_mask = sides()

    @jax.jit
    def twice(x):
        S = clip_similarity(x, y, x_mask, y_mask, pool="max")
        return dataclasses.replace(S, values=2 * S.values)

    S = twice(x)
    assert isinstance(S, Scores)
    np.testing.assert_array_equal(S.valid, (CLIPS != 1) & (CLIPS != 4))
    stacked = jax.vmap(lambda x: clip_similarity(x, y, x_mask, y_mask, pool="max"))(x[None])
    np.testing.assert_allclose(2 * stacked.values[0], S.values, rtol=1e-6)
    assert stacked.x_valid.shape == (1, B)
