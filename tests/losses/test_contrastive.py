"""Losses against plain loops, in value and gradient, and against their published forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgmm.losses import (
    clip_similarity,
    fine_grained_nce,
    info_nce,
    matched_weights,
    mil_nce,
    pooled_similarity,
    sigmoid,
    sparc,
)
from tests.losses import loss_definition as definition
from tests.losses.loss_definition import pool_options

B, P = 4, 3
VALID = np.array([True, False, True, True])
MASK = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0]], bool)
# Clips 0 and 2 share a phrase, and so do 0 and 3; clip 1, which is not valid, shares all it has.
PHRASE_IDS = np.array([[1, 2, 9], [1, 2, 3], [9, 1, 4], [2, 9, 9]])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def scores(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def assert_as_defined(loss, loops, arguments, valid):
    """``loss(reduction, *arguments)`` against ``loops(*arguments)``: each clip, mean, gradients."""
    each = loss("none", *arguments)
    np.testing.assert_allclose(each, loops(*arguments), rtol=1e-10, atol=1e-12)
    assert not np.any(each[~valid])
    mean, gradients = jax.value_and_grad(lambda arguments: loss("mean", *arguments))(arguments)
    np.testing.assert_allclose(mean, np.sum(each) / valid.sum(), rtol=1e-12)
    expected = definition.finite_differences(
        lambda *moved: loops(*moved).sum() / valid.sum(), arguments, step=1e-6
    )
    for actual, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-8 * max(1, np.abs(wanted).max()))
    assert not np.any(gradients[0][~valid])


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e3])
def test_info_nce_is_as_defined(temperature):
    assert_as_defined(
        lambda reduction, s, t: info_nce(s, temperature=t, valid=VALID, reduction=reduction),
        lambda s, t: definition.info_nce(s, t, VALID),
        (scores(B, B), np.array(temperature)),
        VALID,
    )


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e3])
def test_sigmoid_is_as_defined(temperature):
    assert_as_defined(
        lambda reduction, s, t, bias: sigmoid(
            s, temperature=t, bias=bias, valid=VALID, reduction=reduction
        ),
        lambda s, t, bias: definition.sigmoid(s, t, bias, VALID),
        (scores(B, B), np.array(temperature), np.array(-3.0)),
        VALID,
    )


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e3])
def test_mil_nce_is_as_defined(temperature, twice):
    assert_as_defined(
        lambda reduction, s, t: mil_nce(
            s,
            temperature=t,
            mask=MASK,
            count_positives_twice=twice,
            valid=VALID,
            reduction=reduction,
        ),
        lambda s, t: definition.mil_nce(s, MASK, t, VALID, twice),
        (scores(B, B, P), np.array(temperature)),
        VALID,
    )


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e3])
@pytest.mark.parametrize("known", [True, False])
def test_fine_grained_nce_is_as_defined(temperature, known):
    ids = PHRASE_IDS if known else np.arange(B * P).reshape(B, P)
    assert_as_defined(
        lambda reduction, s, t, w: fine_grained_nce(
            s,
            temperature=t,
            mask=MASK,
            weights=w,
            phrase_ids=PHRASE_IDS if known else None,
            valid=VALID,
            reduction=reduction,
        ),
        lambda s, t, w: definition.fine_grained_nce(s, MASK, t, w, VALID, ids),
        (scores(B, B, P), np.array(temperature), scores(B, P, seed=1) + 1),
        VALID,
    )


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e3])
def test_the_noise_rate_is_as_defined(temperature):
    options = {"valid": VALID}
    given = np.array(temperature), np.array(0.3)
    assert_as_defined(
        lambda reduction, s, t, w: info_nce(
            s, temperature=t, noise_rate=w, reduction=reduction, **options
        ),
        lambda s, t, w: definition.info_nce(s, t, VALID, w),
        (scores(B, B), *given),
        VALID,
    )
    weights, phrases = scores(B, P, seed=1) + 1, options | {"mask": MASK, "phrase_ids": PHRASE_IDS}
    assert_as_defined(
        lambda reduction, s, t, w: fine_grained_nce(
            s, temperature=t, weights=weights, noise_rate=w, reduction=reduction, **phrases
        ),
        lambda s, t, w: definition.fine_grained_nce(s, MASK, t, weights, VALID, PHRASE_IDS, w),
        (scores(B, B, P), *given),
        VALID,
    )


def test_a_hopeless_pair_has_no_gradient_if_it_may_be_wrong():
    s = jnp.where(jnp.eye(B, dtype=bool), -1.0, 1.0)
    loss = functools.partial(info_nce, temperature=0.01)
    assert jnp.abs(jax.grad(loss)(s)).max() > 1
    noisy, gradient = jax.value_and_grad(functools.partial(loss, noise_rate=0.5))(s)
    np.testing.assert_allclose(noisy, math.log(2 * B), rtol=1e-12)
    assert jnp.abs(gradient).max() < 1e-10
    with pytest.raises(ValueError, match=r"noise_rate must be above 0 and below 1; got 1\.5"):
        loss(s, noise_rate=1.5)


def test_fine_grained_nce_weighs_phrases_alike_by_default():
    s = scores(B, B, P)
    weights = MASK / MASK.sum(1, keepdims=True)
    options = {"temperature": 0.1, "mask": MASK, "valid": VALID}
    expected = fine_grained_nce(s, weights=weights, **options)
    np.testing.assert_allclose(fine_grained_nce(s, **options), expected, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_sparc_is_as_defined(temperature):
    rng = np.random.default_rng(2)
    x, y = (rng.normal(size=(B, entries, 4)) for entries in (6, 5))
    x_mask, y_mask = rng.random((B, 6)) < 0.8, rng.random((B, 5)) < 0.8
    x_mask[1] = False
    caption = np.broadcast_to([0, 0, 0, 1, 1], (B, 5))
    assert_as_defined(
        lambda reduction, x, y, t: sparc(
            x, y, x_mask, y_mask, temperature=t, caption=caption, reduction=reduction
        ),
        lambda x, y, t: definition.sparc(x, y, x_mask, y_mask, t, caption),
        (x, y, np.array(temperature)),
        VALID,
    )


def test_info_nce_of_single_vectors_is_clip():
    """N = P = 1 of any pool: the symmetric cross-entropy of OpenAI's and open_clip's code."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(B, 8)), rng.normal(size=(B, 8))
    logits = x @ y.T / 0.07
    cross_entropy = (
        -jax.nn.log_softmax(logits, axis=1).diagonal().mean()
        - jax.nn.log_softmax(logits, axis=0).diagonal().mean()
    ) / 2
    for pool in ("softmax", "logsumexp", "max", "mean", "sparc"):
        options = pool_options(pool, 0.1)
        S = clip_similarity(x[:, None], y[:, None], direction="symmetric", **options)
        np.testing.assert_allclose(info_nce(S, temperature=0.07), cross_entropy, rtol=1e-10)
        s = pooled_similarity(x[:, None], y[:, None], **options)
        np.testing.assert_allclose(fine_grained_nce(s, temperature=0.07), cross_entropy, rtol=1e-10)
        np.testing.assert_allclose(mil_nce(s), published_mil_nce(s.values), rtol=1e-10)


def published_mil_nce(x):
    """The computation of the code published with MIL-NCE, on its similarities x [B,B,J]."""
    numerator = jax.nn.logsumexp(jnp.einsum("bbj->bj", x), axis=1)
    denominator = jnp.concatenate([x, x.transpose(1, 0, 2)], axis=1).reshape(len(x), -1)
    return jnp.mean(jax.nn.logsumexp(denominator, axis=1) - numerator)


def test_mil_nce_is_the_published_code():
    s = 5 * scores(B, B, P)
    np.testing.assert_allclose(mil_nce(s), published_mil_nce(s), rtol=1e-12)
    perfect = 100 * np.broadcast_to(np.eye(B)[:, :, None], (B, B, P))
    np.testing.assert_allclose(mil_nce(perfect), math.log(2), rtol=1e-12)
    np.testing.assert_allclose(mil_nce(perfect, count_positives_twice=False), 0, atol=1e-12)


def test_sigmoid_is_the_published_code():
    """Sum of −log sigmoid over all pairs, divided by the batch size."""
    s = scores(B, B)
    labels = 2 * np.eye(B) - 1
    published = -np.sum(np.asarray(jax.nn.log_sigmoid(labels * (10 * s - 10)))) / B
    np.testing.assert_allclose(sigmoid(s, temperature=0.1, bias=-10.0), published, rtol=1e-12)


def test_identical_phrases_are_not_negatives():
    """Raising a score of clip 0 with a phrase that it narrates itself changes nothing elsewhere."""
    s = scores(B, B, P)
    raised = s.copy()
    raised[0, 2, 1] += 1  # phrase 1, which clip 0 has too
    options = {"temperature": 0.1, "mask": MASK, "valid": VALID, "reduction": "none"}
    before, after = (fine_grained_nce(z, phrase_ids=PHRASE_IDS, **options) for z in (s, raised))
    np.testing.assert_array_equal(before, after)
    different = fine_grained_nce(raised, **options)
    assert different[0] > before[0]
    assert different[2] > before[2]


def test_comparing_phrases_needs_no_more_memory_than_scores():
    clips, phrases = 64, 32

    def loss(s, mask, ids):
        return fine_grained_nce(s, temperature=0.1, mask=mask, phrase_ids=ids)

    shapes = [((clips, clips, phrases), "f4"), ((clips, phrases), "?"), ((clips, phrases), "i4")]
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    analysis = jax.jit(jax.grad(loss)).lower(*arguments).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 8 * 4 * clips * clips * phrases


@pytest.mark.parametrize("null_score", [None, 0.3])
def test_matched_weights_come_from_the_matched_pair(null_score):
    s = scores(B, B, P)
    options = {"temperature": 0.2, "mask": MASK, "null_score": null_score}
    weights = matched_weights(s, **options)
    e = np.where(MASK, np.exp(np.einsum("ccp->cp", s) / 0.2), 0)
    null = 0 if null_score is None else math.exp(null_score / 0.2)
    np.testing.assert_allclose(weights, e / (e.sum(1, keepdims=True) + null), rtol=1e-12)
    gradient = jax.grad(lambda s: (matched_weights(s, **options) ** 2).sum())(s)
    assert not np.any(gradient)


def test_matched_weights_of_nothing_are_zero():
    nothing = np.zeros((B, P), bool)
    for null_score in (None, 0.3):
        options = {"temperature": 0.2, "null_score": null_score}
        assert not np.any(matched_weights(scores(B, B, P), mask=nothing, **options))

    def total(null_score):
        options = {"temperature": 0.2, "mask": MASK, "null_score": null_score}
        return matched_weights(scores(B, B, P), **options).sum()

    assert jax.grad(total)(0.0) < 0


LOSSES = {
    "info_nce": lambda s, **options: info_nce(s[:, :, 0], **options),
    "sigmoid": lambda s, **options: sigmoid(s[:, :, 0], bias=-1.0, **options),
    "mil_nce": mil_nce,
    "mil_nce once": functools.partial(mil_nce, count_positives_twice=False),
    "fine_grained_nce": fine_grained_nce,
}


@pytest.mark.parametrize("name", LOSSES)
def test_invalid_clips_are_as_if_absent(name):
    """They change nothing, even where they hold NaN; no clip or one clip gives no NaN either."""
    s = scores(B, B, P)

    @jax.jit
    @jax.value_and_grad
    def loss(s, valid):
        return LOSSES[name](s, temperature=0.1, valid=valid)

    present = loss(s[VALID][:, VALID], np.ones(3, bool))
    spoilt = s.copy()
    spoilt[~VALID] = spoilt[:, ~VALID] = np.nan
    masked = loss(spoilt, VALID)
    np.testing.assert_allclose(masked[0], present[0], rtol=1e-12)
    np.testing.assert_allclose(masked[1][VALID][:, VALID], present[1], rtol=1e-12)
    assert not np.any(masked[1][~VALID])
    assert not np.any(masked[1][:, ~VALID])

    value, gradient = loss(s, np.zeros(B, bool))
    assert value == 0
    assert not np.any(gradient)
    value, gradient = loss(s, np.arange(B) == 2)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(B)), st.floats(0.01, 100))
def test_order_of_clips_does_not_matter(seed, order, temperature):
    rng = np.random.default_rng(seed)
    s, valid, mask = rng.uniform(-1, 1, (B, B, P)), rng.random(B) < 0.8, rng.random((B, P)) < 0.8
    order = np.array(order)
    ids = rng.integers(0, 4, (B, P))

    def losses(s, valid, mask, ids):
        options = {"temperature": temperature, "valid": valid, "reduction": "none"}
        return [
            info_nce(s[:, :, 0], **options),
            mil_nce(s, mask=mask, **options),
            fine_grained_nce(s, mask=mask, phrase_ids=ids, **options),
        ]

    permuted = losses(s[order][:, order], valid[order], mask[order], ids[order])
    for before, after in zip(losses(s, valid, mask, ids), permuted, strict=True):
        np.testing.assert_allclose(before[order], after, rtol=1e-9, atol=1e-12)
        assert np.all(before >= 0)


def test_extreme_scores_stay_finite_in_float32():
    for temperature in (1e-3, 1e3):
        for size in (0.0, 1.0, 100.0):
            s = jnp.float32(size * scores(B, B, P))
            for loss in (
                lambda s, t: info_nce(s[:, :, 0], temperature=t),
                lambda s, t: sigmoid(s[:, :, 0], temperature=t, bias=-10.0),
                lambda s, t: mil_nce(s, temperature=t),
                lambda s, t: fine_grained_nce(s, temperature=t),
            ):
                values = jax.value_and_grad(loss, argnums=(0, 1))(s, jnp.float32(temperature))
                assert all(np.all(np.isfinite(v)) for v in jax.tree.leaves(values))


def test_sparc_of_nothing_and_of_zero_vectors_has_no_nan():
    x, y = np.zeros((B, 4, 5)), np.zeros((B, P, 5))
    for mask in (np.ones((B, 4), bool), np.zeros((B, 4), bool)):
        value, gradients = jax.value_and_grad(
            lambda x, y, mask=mask: sparc(x, y, mask, temperature=0.1), argnums=(0, 1)
        )(x, y)
        assert np.isfinite(value)
        assert not any(np.any(g) for g in gradients)


def test_wrong_shapes_and_reductions_are_named():
    with pytest.raises(ValueError, match="B and C must be equal; got 4 and 3"):
        info_nce(scores(4, 3), temperature=0.1)
    with pytest.raises(ValueError, match="B and C must be equal; got 2 and 3"):
        mil_nce(scores(2, 3, 1))
    with pytest.raises(ValueError, match="reduction must be one of mean, none; got 'sum'"):
        info_nce(scores(3, 3), temperature=0.1, reduction="sum")
