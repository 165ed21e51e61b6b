"""Similarities against plain loops, in value and gradient, and what must hold for any input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgmm.losses import attention_weights, clip_similarity, info_nce, pooled_similarity
from fgmm.losses.dense import POOLS, POOLS_WITH_TEMPERATURE
from fgmm.losses.similarity import DIRECTIONS, WEIGHTINGS
from tests.losses import loss_definition as definition
from tests.losses.loss_definition import pool_options, weighting_options

# The kernel is for bfloat16 and for some of the pools: tests/losses/kernels.
IMPLEMENTATIONS = ("dense", "blockwise")

# B, C, N, P
SHAPES = [(3, 4, 5, 3), (2, 3, 1, 2), (3, 2, 4, 1)]
# Blocks that divide neither B nor C of the first shape.
BLOCKS = {implementation: None for implementation in IMPLEMENTATIONS} | {"blockwise": (2, 3)}

any_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def sides(rng, B, C, N, P, D=6, masked=True):
    """Unit vectors and masks; the last clip and the first caption are wholly masked."""
    x, y = unit(rng.normal(size=(B, N, D))), unit(rng.normal(size=(C, P, D)))
    x_mask, y_mask = np.ones((B, N), bool), np.ones((C, P), bool)
    if masked:
        x_mask, y_mask = rng.random((B, N)) < 0.7, rng.random((C, P)) < 0.7
        x_mask[:, 0] = y_mask[:, 0] = True
        x_mask[-1] = y_mask[0] = False
    return x, y, x_mask, y_mask


def degenerate(case):
    """Inputs at which formulas divide by zero, maxima are shared or nothing is there."""
    rng = np.random.default_rng(5)
    x, y, x_mask, y_mask = sides(rng, 3, 2, 4, 3, masked=False)
    if case == "zero vectors":
        x[0] = 0
        x[1, 1] = 0
        y[1, 2] = 0
    elif case == "all equal":
        x[:] = x[:, :1]
    elif case == "ties":
        x[:, 2] = x[:, 0] = y[0, 0]
        x[:, 3] = x[:, 1] = -y[0, 0]
    elif case == "nothing valid":
        x_mask[:] = False
    return x, y, x_mask, y_mask


@functools.partial(jax.jit, static_argnames=("pool", "implementation"))
def value_and_gradients(cotangent, x, y, temperature, x_mask, y_mask, pool, implementation):
    options = {"implementation": implementation, "block": BLOCKS[implementation]}

    def similarity(x, y, temperature):
        pooling = pool_options(pool, temperature)
        return pooled_similarity(x, y, x_mask, y_mask, **pooling, **options).values

    s, gradients = jax.vjp(similarity, x, y, temperature)
    return s, *gradients(cotangent)


def assert_as_defined(inputs, pool, implementation, temperature, tolerance, dtype=np.float64):
    """Value and gradients of ``pooled_similarity``; the tolerance is relative to their norms."""
    x, y, x_mask, y_mask = inputs
    cotangent = 1.5 + np.cos(np.arange(len(x) * y.shape[0] * y.shape[1], dtype=float))
    cotangent = cotangent.reshape(len(x), *y.shape[:2])
    x, y, temperature = x.astype(dtype), y.astype(dtype), np.asarray(temperature, dtype)
    found = value_and_gradients(
        cotangent.astype(dtype), x, y, temperature, x_mask, y_mask, pool, implementation
    )
    arguments = (x.astype(float), y.astype(float), x_mask, y_mask, pool, float(temperature))
    expected = (
        definition.pooled_similarity(*arguments),
        *definition.pooled_similarity_gradients(cotangent, *arguments),
    )
    for name, actual, wanted in zip(["s", "dx", "dy", "dt"], found, expected, strict=True):
        assert actual.dtype == dtype
        error = np.linalg.norm(np.asarray(actual, float) - wanted)
        assert error <= tolerance * max(np.linalg.norm(wanted), 1e-3), (name, error)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", POOLS)
@any_implementation
def test_pooled_similarity_is_as_defined(float64, implementation, pool, shape):
    inputs = sides(np.random.default_rng(0), *shape)
    for temperature in (1e-3, 0.1, 1e3):
        assert_as_defined(inputs, pool, implementation, temperature, tolerance=1e-10)


@pytest.mark.parametrize("pool", POOLS)
@any_implementation
def test_degenerate_inputs_are_as_defined(float64, implementation, pool):
    for case in ("zero vectors", "all equal", "ties", "nothing valid"):
        assert_as_defined(degenerate(case), pool, implementation, 0.1, tolerance=1e-10)


@pytest.mark.parametrize("shape", [(2, 2, 6, 2), (5, 7, 5, 3)])
@any_implementation
def test_extremes_have_their_gradient_however_a_is_fused(float64, implementation, shape):
    """XLA may round one expression in two ways in two places; then no entry equals the minimum."""
    B, C, N, P = shape
    x, y, x_mask, y_mask = sides(np.random.default_rng(0), B, C, N, P, D=8, masked=False)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(x, y):
        options = {"pool": "sparc", "implementation": implementation}
        return pooled_similarity(x, y, **options).values.sum()

    arguments = (np.ones((B, C, P)), x, y, x_mask, y_mask, "sparc", None)
    expected = definition.pooled_similarity_gradients(*arguments)[:2]
    for actual, wanted in zip(gradients(x, y), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-12)


@pytest.mark.parametrize("pool", POOLS)
@any_implementation
def test_float32_keeps_its_digits_at_any_temperature(implementation, pool):
    inputs = sides(np.random.default_rng(1), 4, 6, 196, 8)
    for temperature in (1e-3, 0.01, 0.1, 1.0, 1e3) if pool in POOLS_WITH_TEMPERATURE else (1.0,):
        # What rounding does to a itself, 3e-8, counts in units of the temperature.
        tolerance = 1e-5 * max(1, 0.01 / temperature)
        assert_as_defined(inputs, pool, implementation, temperature, tolerance, np.float32)


@any_implementation
def test_second_derivative_of_logsumexp_is_that_of_its_formula(float64, implementation):
    x, y, x_mask, y_mask = sides(np.random.default_rng(2), 2, 2, 4, 2)
    options = {"pool": "logsumexp", "implementation": implementation}

    def similarity(t):
        return pooled_similarity(x, y, x_mask, y_mask, temperature=t, **options).values.sum()

    def formula(t):
        args = (x, y, x_mask, y_mask, "logsumexp", t)
        return definition.pooled_similarity_gradients(np.ones((2, 2, 2)), *args)[2]

    expected = (formula(0.2 + 1e-5) - formula(0.2 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(jax.grad(similarity))(0.2), expected, rtol=1e-7)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("pool", ["softmax", "logsumexp", "sparc"])
def test_clip_similarity_is_as_defined(float64, pool, direction, weighting):
    x, y, x_mask, y_mask = sides(np.random.default_rng(3), 3, 2, 4, 3, D=3)
    cotangent = np.cos(np.arange(6.0)).reshape(3, 2)

    def loops(x, y, temperature, phrase_temperature):
        options = (pool, temperature, direction, weighting, phrase_temperature)
        return definition.clip_similarity(x, y, x_mask, y_mask, *options)

    @jax.jit
    def value_and_gradients(*arguments):
        def similarity(x, y, temperature, phrase_temperature):
            return clip_similarity(
                *(x, y, x_mask, y_mask),
                **pool_options(pool, temperature),
                **weighting_options(weighting, phrase_temperature),
                direction=direction,
            ).values

        value, gradients = jax.vjp(similarity, *arguments)
        return value, gradients(cotangent)

    arguments = (x, y, np.array(0.3), np.array(0.2))
    value, gradients = value_and_gradients(*arguments)
    np.testing.assert_allclose(value, loops(*arguments), atol=1e-12)
    expected = definition.finite_differences(
        lambda *arguments: np.sum(cotangent * loops(*arguments)), arguments
    )
    for actual, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-8)


@pytest.mark.parametrize("pool", POOLS)
@any_implementation
def test_what_is_masked_never_matters(implementation, pool):
    x, y, x_mask, y_mask = sides(np.random.default_rng(4), 3, 4, 5, 3)
    spoilt_x = np.where(x_mask[..., None], x, np.nan).astype(np.float32)
    spoilt_y = np.where(y_mask[..., None], y, np.inf).astype(np.float32)
    options = {**pool_options(pool, 0.1), "weighting": "softmax"}
    options |= {"phrase_temperature": 0.1, "direction": "symmetric"}
    options |= {"implementation": implementation}

    @jax.jit
    def scores_and_gradients(x, y):
        def scores(x, y):
            return clip_similarity(x, y, x_mask, y_mask, **options).values

        s, gradients = jax.vjp(scores, x, y)
        return s, *gradients(jnp.ones_like(s))

    clean = scores_and_gradients(np.float32(x), np.float32(y))
    spoilt = scores_and_gradients(spoilt_x, spoilt_y)
    for before, after in zip(clean, spoilt, strict=True):
        np.testing.assert_array_equal(before, after)
    s, dx, dy = spoilt
    assert not np.any(s[-1])
    assert not np.any(s[:, 0])
    assert not np.any(dx[~x_mask])
    assert not np.any(dy[~y_mask])
    assert np.any(dx[x_mask])
    assert np.any(dy[y_mask])


@pytest.mark.parametrize("direction", DIRECTIONS)
@any_implementation
def test_a_score_does_not_depend_on_the_gallery(implementation, direction):
    """Permuting captions permutes scores: the matched pair has no influence on any score."""
    x, y, x_mask, y_mask = sides(np.random.default_rng(6), 4, 4, 5, 3)
    order = np.array([2, 0, 3, 1])
    options = {"pool": "softmax", "temperature": 0.1, "direction": direction}
    options |= {"weighting": "softmax", "phrase_temperature": 0.05}
    options |= {"implementation": implementation, "block": BLOCKS[implementation]}
    s = clip_similarity(x, y, x_mask, y_mask, **options).values
    permuted = clip_similarity(x, y[order], x_mask, y_mask[order], **options).values
    np.testing.assert_allclose(permuted, s[:, order], rtol=1e-6)
    alone = clip_similarity(x[:1], y[2:3], x_mask[:1], y_mask[2:3], **options).values
    np.testing.assert_allclose(alone[0, 0], s[0, 2], rtol=1e-5)


@any_implementation
@pytest.mark.parametrize("pool", POOLS_WITH_TEMPERATURE)
def test_gradients_of_bfloat16_embeddings_are_as_long_as_in_float64(float64, pool, implementation):
    """At the same embeddings, rounded to bfloat16: losses add up in float32."""
    x, y, x_mask, y_mask = sides(np.random.default_rng(7), 8, 8, 12, 3, D=32)
    x_mask[-1] = y_mask[0] = True

    def gradients(dtype):
        def loss(x, y, temperature):
            options = {"pool": pool, "temperature": temperature, "implementation": implementation}
            S = clip_similarity(x, y, x_mask, y_mask, **options)
            return info_nce(S, temperature=0.07)

        embeddings = (jnp.asarray(jnp.bfloat16(v), dtype) for v in (x, y))
        return jax.grad(loss, (0, 1, 2))(*embeddings, jnp.asarray(0.1, dtype=jnp.float64))

    for narrow, wide in zip(gradients(jnp.bfloat16), gradients(jnp.float64), strict=True):
        norms = [np.linalg.norm(np.float64(gradient)) for gradient in (narrow, wide)]
        assert norms[1] > 0
        assert norms[0] == pytest.approx(norms[1], rel=0.01)


@any_implementation
def test_bfloat16_accumulates_in_float32(implementation):
    x, y, x_mask, y_mask = sides(np.random.default_rng(7), 2, 3, 40, 4, D=300)
    x16, y16 = jnp.bfloat16(x), jnp.bfloat16(y)

    def scores(x, y):
        options = {"pool": "softmax", "temperature": 0.1, "implementation": implementation}
        return pooled_similarity(x, y, x_mask, y_mask, **options).values

    s = scores(x16, y16)
    assert s.dtype == jnp.float32
    np.testing.assert_allclose(s, scores(jnp.float32(x16), jnp.float32(y16)), atol=2e-7)
    wanted = jax.grad(lambda x: scores(x, jnp.float32(y16)).sum())(jnp.float32(x16))
    found = jax.grad(lambda x: scores(x, y16).sum())(x16)
    assert found.dtype == jnp.bfloat16
    assert np.linalg.norm(np.float32(found) - wanted) < 4e-3 * np.linalg.norm(wanted)


@any_implementation
def test_vmap_is_a_loop(implementation):
    rng = np.random.default_rng(8)
    x, y = (jnp.float32(rng.normal(size=shape)) for shape in [(3, 2, 4, 5), (3, 2, 3, 5)])
    temperatures = jnp.array([0.1, 1.0, 10.0])

    @jax.jit
    def scores(x, y, t):
        options = {"pool": "logsumexp", "direction": "symmetric", "implementation": implementation}
        return clip_similarity(x, y, temperature=t, **options).values.sum()

    mapped = jax.vmap(jax.grad(scores, argnums=(0, 2)))(x, y, temperatures)
    each_by_itself = zip(x, y, temperatures, strict=True)
    looped = [jax.grad(scores, argnums=(0, 2))(*each) for each in each_by_itself]
    for k in range(2):
        np.testing.assert_allclose(mapped[k], [each[k] for each in looped], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_attention_weights_are_what_pools(float64, pool):
    x, y, x_mask, y_mask = sides(np.random.default_rng(9), 3, 4, 5, 3)
    w = attention_weights(x, y, x_mask, y_mask, **pool_options(pool, 0.1))
    some = x_mask.any(1)[:, None, None] & y_mask[None]
    np.testing.assert_allclose(w.sum(2), some, atol=1e-12)
    assert not np.any(np.where(x_mask[:, None, :, None], 0, w))
    if pool != "logsumexp":
        pooled = np.sum(w * np.einsum("bnd,cpd->bcnp", x, y), axis=2)
        s = pooled_similarity(x, y, x_mask, y_mask, **pool_options(pool, 0.1))
        np.testing.assert_allclose(pooled, s.values, atol=1e-12)


def test_unknown_options_and_missing_temperatures_are_named():
    x, y = jnp.ones((1, 2, 3)), jnp.ones((1, 2, 3))
    with pytest.raises(ValueError, match=r"pool must be one of softmax.*got 'median'"):
        pooled_similarity(x, y, pool="median")
    with pytest.raises(ValueError, match="'logsumexp' needs a temperature"):
        pooled_similarity(x, y, pool="logsumexp")
    with pytest.raises(ValueError, match="direction must be one of y_to_x"):
        clip_similarity(x, y, pool="max", direction="both")
    with pytest.raises(ValueError, match="weighting must be one of uniform"):
        clip_similarity(x, y, pool="max", weighting="idf")
    with pytest.raises(ValueError, match=r"implementation must be one of dense.*got 'fast'"):
        pooled_similarity(x, y, pool="max", implementation="fast")
    with pytest.raises(ValueError, match=r"block is of blockwise alone; got \(1, 1\) for dense"):
        pooled_similarity(x, y, pool="max", implementation="dense", block=(1, 1))
    with pytest.raises(ValueError, match=r"block must be two numbers of at least 1; got \(0, 1\)"):
        pooled_similarity(x, y, pool="max", block=(0, 1))
    with pytest.raises(ValueError, match="needs a phrase_temperature"):
        clip_similarity(x, y, pool="max", weighting="softmax")


local_similarities = st.lists(
    st.floats(-1, 1, width=32, allow_subnormal=False), min_size=6, max_size=6
)
masks = st.lists(st.booleans(), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(local_similarities, masks, st.floats(1e-3, 1e3), st.sampled_from(sorted(IMPLEMENTATIONS)))
def test_pools_lie_between_their_bounds(a, mask, temperature, implementation):
    """Min ≤ mean ≤ logsumexp ≤ max, softmax between mean and max; no NaN in any derivative."""
    a, mask = np.float32(a), np.array(mask)
    x, y, one = a[None, :, None], jnp.ones((1, 1, 1)), np.ones((1, 1), bool)

    def s(pool):
        value, *gradients = value_and_gradients(
            *(jnp.ones((1, 1, 1)), x, y, jnp.float32(temperature), mask[None], one),
            *(pool, implementation),
        )
        assert all(np.all(np.isfinite(g)) for g in gradients)
        return float(value.item())

    values = {pool: s(pool) for pool in POOLS}
    valid = a[mask] if mask.any() else np.zeros(1)
    slack = 1e-6
    assert abs(values["max"] - valid.max()) < slack
    assert abs(values["mean"] - valid.mean()) < slack
    assert values["mean"] - slack <= values["logsumexp"] <= values["softmax"] + slack
    assert values["softmax"] <= values["max"] + slack
    assert values["mean"] - slack <= values["sparc"] <= values["max"] + slack
