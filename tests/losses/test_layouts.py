"""Candidates and matched pairs: what all pairs give for the same clips and captions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from fgmm.losses import (
    clip_keys,
    clip_similarity,
    fine_grained_nce,
    info_nce,
    matched_similarity,
    matched_weights,
    mil_nce,
    pooled_similarity,
    sampled_phrases,
    sharded,
    sigmoid,
)
from fgmm.losses.dense import POOLS
from tests.losses.loss_definition import pool_options

B, N, P, K, D = 8, 6, 3, 5, 4
BLOCK = (3, 2)  # divides neither B nor K
LONG = pytest.mark.long


def inputs(dtype=np.float64):
    """Unit vectors, gates and masks: clip 2 and caption 1 are wholly masked. Clip 0 names caption 3
    twice, clip 1 a masked one, clip 4 numbers that are no caption's; the first is a clip's own.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(B, N, D)), rng.normal(size=(B, P, D))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    gates = rng.normal(size=(B, N)), rng.normal(size=(B, P))
    x_mask, y_mask = rng.random((B, N)) < 0.7, rng.random((B, P)) < 0.7
    x_mask[:, 0] = y_mask[:, 0] = True
    x_mask[2] = y_mask[1] = False
    others = np.stack([rng.permutation(np.delete(np.arange(B), b))[: K - 1] for b in range(B)])
    candidates = np.concatenate([np.arange(B)[:, None], others], axis=1).astype(np.int32)
    candidates[0] = [0, 3, 5, 3, 0]
    candidates[1, 1:3] = [2, 3]
    candidates[4, 2:] = [-1, B, 1000]
    given = [np.asarray(v, dtype) for v in (x, y, *gates)]
    return given, (jnp.asarray(x_mask), jnp.asarray(y_mask)), candidates


def filled(candidates):
    """Which slots have a caption: neither a number out of range nor a repetition."""
    again = [[c in row[:k] for k, c in enumerate(row)] for row in candidates.tolist()]
    return (candidates >= 0) & (candidates < B) & ~np.array(again)


def scores(layout, masks, pool, options, x, y, x_gate, y_gate, temperature):
    """s, and S with the weights whose turn it is among the pools."""
    x_mask, y_mask = masks
    arguments = x, y, x_mask, y_mask
    pooling = {**pool_options(pool, temperature), **options}
    weights = {"x_gate": x_gate, "y_gate": y_gate}
    if POOLS.index(pool) % 2:
        weights = {"weighting": "softmax", "phrase_temperature": temperature}
    s = pooled_similarity(*arguments, **pooling)
    S = clip_similarity(*arguments, **pooling, **weights, direction="symmetric")
    return [layout(scores.values) for scores in (s, S)]


def values_and_gradients(layout, masks, pool, **options):
    """A function of x, y, gates and temperature."""
    compute = functools.partial(scores, layout, masks, pool, options)

    @jax.jit
    def values_and_gradients(*arguments):
        values, pull_back = jax.vjp(compute, *arguments)
        cotangents = [jnp.cos(jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape) for v in values]
        return values, pull_back(cotangents)

    return values_and_gradients


def definition(masks, pool, candidates):
    """All pairs, of which some are taken."""
    rows, some = np.arange(B)[:, None], filled(candidates)

    def take(s):
        kept = s[rows, np.where(some, candidates, 0)]
        return jnp.where(some.reshape(some.shape + (1,) * (s.ndim - 2)), kept, 0)

    return values_and_gradients(take, masks, pool, implementation="dense")


def check_equal(found, expected, tolerance):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for actual, wanted in zip(found, expected, strict=True):
        actual, wanted = np.asarray(actual, np.float64), np.asarray(wanted)
        assert np.linalg.norm(actual - wanted) <= tolerance * max(np.linalg.norm(wanted), 1e-3)


@pytest.mark.parametrize(
    "pool",
    [
        pool if pool in ("softmax", "logsumexp", "mean") else pytest.param(pool, marks=LONG)
        for pool in POOLS
    ],
)
def test_candidates_by_number_are_taken_from_all_pairs(pool):
    with jax.enable_x64(True):
        given, masks, candidates = inputs()
        options = {"implementation": "blockwise", "block": BLOCK, "candidates": candidates}
        streamed = values_and_gradients(lambda s: s, masks, pool, **options)
        defined = definition(masks, pool, candidates)
        for temperature in (1e-3, 0.1, 1e3):
            arguments = *given, np.float64(temperature)
            expected = defined(*arguments)
            assert expected[0][0].shape == (B, K, P)
            assert np.linalg.norm(expected[1][1]) > 1e-3
            check_equal(streamed(*arguments), expected, 1e-10)


@pytest.mark.parametrize("implementation", [pytest.param("dense", marks=LONG), "blockwise"])
def test_candidates_that_are_given_are_those_by_number(implementation):
    """Captions of each clip, once with the same for several clips and once with its own alone."""
    with jax.enable_x64(True):
        (x, y, x_gate, y_gate), (x_mask, y_mask), candidates = inputs()
        candidates = np.where(filled(candidates), candidates, 1)  # caption 1 is masked
        options = {"implementation": implementation}

        def of_given(x, y, x_gate, y_gate, temperature):
            masks = x_mask, y_mask[candidates]
            arguments = x, y[candidates], x_gate, y_gate[candidates], temperature
            return scores(lambda s: s, masks, "logsumexp", options, *arguments)

        arguments = x, y, x_gate, y_gate, np.float64(0.1)
        expected, _ = definition((x_mask, y_mask), "logsumexp", candidates)(*arguments)
        check_equal(jax.jit(of_given)(*arguments), expected, 1e-10)


def test_matched_pairs_are_the_diagonal():
    (x, y, *_), masks, _ = inputs(np.float32)
    pooling = {"pool": "softmax", "temperature": 0.1}
    own = np.arange(B)
    for implementation in ("dense", "blockwise"):
        found = matched_similarity(x, y, *masks, **pooling, implementation=implementation)
        expected = pooled_similarity(x, y, *masks, **pooling).values[own, own]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_bfloat16_accumulates_in_float32_and_what_is_masked_may_be_anything():
    (x, y, *_), (x_mask, y_mask), candidates = inputs(np.float32)
    x, y = jnp.bfloat16(x), jnp.bfloat16(y)
    options = {"pool": "softmax", "temperature": 0.1, "implementation": "blockwise"}

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def compute(x, y):
        s = pooled_similarity(x, y, x_mask, y_mask, candidates=candidates, **options).values
        return jnp.sum(jnp.sin(s)), s

    (_, s), gradients = compute(x, y)
    assert s.dtype == jnp.float32
    assert all(gradient.dtype == jnp.bfloat16 for gradient in gradients)
    wide = jax.grad(lambda *sides: compute(*sides)[0][0], (0, 1))(jnp.float32(x), jnp.float32(y))
    for narrow, wanted in zip(gradients, wide, strict=True):
        error = np.linalg.norm(np.float32(narrow) - wanted)
        assert error < 1e-2 * np.linalg.norm(wanted)
    spoilt = jnp.where(x_mask[..., None], x, jnp.nan), jnp.where(y_mask[..., None], y, jnp.inf)
    (_, again), again_gradients = compute(*spoilt)
    np.testing.assert_array_equal(again, s)
    jax.tree.map(np.testing.assert_array_equal, again_gradients, gradients)


def test_captions_of_candidates_are_not_held():
    clips, candidates, (N, P, D) = 256, 64, (64, 16, 128)

    def loss(x, y, chosen):
        options = {"pool": "softmax", "temperature": 0.1, "implementation": "blockwise"}
        return jnp.sum(clip_similarity(x, y, candidates=chosen, **options).values ** 2)

    sides = [jax.ShapeDtypeStruct((clips, n, D), "f4") for n in (N, P)]
    chosen = jax.ShapeDtypeStruct((clips, candidates), "i4")
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    analysis = step.lower(*sides, chosen).compile().memory_analysis()
    assert 3 * analysis.temp_size_in_bytes < 4 * clips * candidates * P * D


def contrasts(s, S, pairs, across):
    """Every contrast, of similarities by phrase and of scores."""
    named = {"temperature": 0.2, **across}
    return [
        info_nce(S, pairs=pairs, **named),
        sigmoid(S, pairs=pairs, bias=-1.0, **named),
        mil_nce(s, pairs=pairs, **named),
        fine_grained_nce(s, pairs=pairs, **named),
    ]


def losses_of_candidates(x, y, x_mask, y_mask, candidates, *, axis_name=None):
    options = {"pool": "logsumexp", "temperature": 0.2, "implementation": "blockwise"}
    options |= {"candidates": candidates, "axis_name": axis_name}
    s = pooled_similarity(x, y, x_mask, y_mask, **options)
    S = clip_similarity(x, y, x_mask, y_mask, direction="symmetric", **options)
    found = contrasts(s, S, None, {"axis_name": axis_name})
    return sum((k + 1) * loss for k, loss in enumerate(found))


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=LONG)])
def test_contrasts_of_candidates_are_those_of_a_mask_and_of_eight_devices(dtype):
    """Over devices, and of all pairs of which some are masked. Clip 5 has not its own caption."""
    with jax.enable_x64(True):
        (x, y, *_), masks, candidates = inputs()
        candidates[5, 0] = 6 if 6 not in candidates[5] else 0
        candidates = np.where(candidates == 5, 5, candidates)
        in_row = filled(candidates)
        pairs = np.zeros((B, B), bool)
        for b in range(B):
            pairs[b, candidates[b, in_row[b]]] = True
        valid = jnp.asarray(pairs[np.arange(B), np.arange(B)])
        assert not valid[5]

        def masked(x, y):
            options = {"pool": "logsumexp", "temperature": 0.2, "implementation": "dense"}
            s = pooled_similarity(x, y, *masks, **options)
            S = clip_similarity(x, y, *masks, direction="symmetric", **options)
            found = contrasts(s, S, jnp.asarray(pairs), {"valid": valid})
            return sum((k + 1) * loss for k, loss in enumerate(found))

        expected = jax.jit(jax.value_and_grad(masked, (0, 1)))(x, y)
        one = jax.jit(jax.value_and_grad(losses_of_candidates, (0, 1)))
        check_equal(one(x, y, *masks, candidates), expected, 1e-10)
    with jax.enable_x64(dtype == np.float64):
        over_mesh = sharded(losses_of_candidates, Mesh(np.array(jax.devices()), ("data",)))
        sides = (jnp.asarray(x, dtype), jnp.asarray(y, dtype))
        many = jax.jit(jax.value_and_grad(over_mesh, (0, 1)))(*sides, *masks, candidates)
    check_equal(many, expected, 1e-10 if dtype == np.float64 else 1e-5)


def test_scores_of_candidates_may_leave_out_pairs():
    (x, y, *_), masks, candidates = inputs(np.float32)
    allowed = np.random.default_rng(1).random((B, B)) < 0.5
    few = np.where(np.take_along_axis(allowed, candidates % B, axis=1), candidates, -1)
    few[:, 0] = candidates[:, 0]

    def found(candidates, pairs):
        s = pooled_similarity(x, y, *masks, pool="max", candidates=candidates)
        return fine_grained_nce(s, temperature=0.2, pairs=pairs)

    np.testing.assert_allclose(found(candidates, allowed), found(few, None), rtol=1e-6)
    with pytest.raises(ValueError, match=r"pairs must be \[b,C\] with b, C = 8, 8; got \(8, 5\)"):
        found(candidates, allowed[:, :K])


def test_nothing_valid_is_a_loss_of_zero():
    (x, y, *_), (x_mask, y_mask), candidates = inputs(np.float32)
    compute = jax.jit(jax.value_and_grad(losses_of_candidates, (0, 1)))
    for masks, chosen in (
        ((x_mask, np.zeros_like(y_mask)), candidates),
        ((np.zeros_like(x_mask), y_mask), candidates),
        ((x_mask, y_mask), np.full_like(candidates, -1)),
    ):
        loss, gradients = compute(x, y, *masks, chosen)
        assert loss == 0
        assert not any(np.any(gradient) for gradient in gradients)


def test_options_that_exclude_each_other_are_named():
    (x, y, *_), (_, y_mask), candidates = inputs(np.float32)
    options = {"pool": "max", "candidates": candidates}
    with pytest.raises(ValueError, match=r"candidates are numbers of captions y \[c,P,D\]; got y"):
        pooled_similarity(x, y[candidates % B], **options)
    axes = r"y_mask must have the first axes of y, \[b,K,P\] = \(8, 5, 3\); got shape \(8, 3\)"
    with pytest.raises(ValueError, match=axes):
        pooled_similarity(x, y[candidates % B], None, y_mask, pool="max")
    with pytest.raises(ValueError, match="candidates need implementation 'blockwise', 'dense'"):
        pooled_similarity(x, y, **options, implementation="kernel")
    with pytest.raises(ValueError, match=r"candidates must be integers; got float32"):
        pooled_similarity(x, y, pool="max", candidates=np.float32(candidates))
    with pytest.raises(ValueError, match=r"candidates must be \[b,K\] with b = 8 as in x"):
        pooled_similarity(x, y, pool="max", candidates=candidates[:2])
    with pytest.raises(ValueError, match="y_mask must be bool; got int64: pass y_mask > 0"):
        pooled_similarity(x, y, None, np.asarray(y_mask, int), **options)
    whole = np.ones((B, N), int)
    with pytest.raises(ValueError, match="x_mask must be bool; got int64: pass x_mask > 0"):
        matched_similarity(x, y, whole, pool="max")
    with pytest.raises(ValueError, match="y_mask must be bool; got int64: pass y_mask > 0"):
        clip_similarity(x, y[candidates % B], None, np.ones((B, K, P), int), pool="max")
    with pytest.raises(ValueError, match="mask must be bool; got int64: pass mask > 0"):
        sampled_phrases(np.ones((B, P), int), m=1, keys=clip_keys(jax.random.key(0), B))
    S = clip_similarity(x, y[candidates % B], pool="max")
    with pytest.raises(ValueError, match="of given candidates"):
        info_nce(S, temperature=0.1)
    s = pooled_similarity(x, y[candidates % B], np.ones((B, N), bool), pool="max")
    for contrast in (mil_nce, fine_grained_nce, matched_weights):
        for mask in (None, np.ones((B, P), bool)):
            with pytest.raises(ValueError, match="of given candidates"):
                contrast(s, temperature=0.1, mask=mask)
    with pytest.raises(ValueError, match="candidates need exchange 'gather'; got 'ring'"):
        jax.vmap(
            lambda x, y, chosen: (
                pooled_similarity(
                    x, y, pool="max", candidates=chosen, axis_name="i", exchange="ring"
                ).values
            ),
            axis_name="i",
        )(x[None], y[None], candidates[None])
