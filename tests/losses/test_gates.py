"""Learned weights of phrases and local embeddings: values, gradients, and gates with no choice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from fgmm.losses import clip_similarity, gate_weights, info_nce, sharded
from fgmm.losses.dense import POOLS, pooled
from fgmm.losses.exchange import x_travels
from fgmm.losses.similarity import DIRECTIONS
from tests.losses.loss_definition import pool_options

B, C, N, P, D = 5, 7, 6, 3, 4
BLOCK = (2, 3)  # divides neither B nor C
IMPLEMENTATIONS = {"dense": None, "blockwise": BLOCK}


def inputs(dtype=np.float64, clips=B, captions=C):
    """Unit vectors, gates and masks; one clip and one caption are wholly masked, and others have
    one valid entry.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(clips, N, D)), rng.normal(size=(captions, P, D))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    x_gate, y_gate = 2 * rng.normal(size=(clips, N)), 2 * rng.normal(size=(captions, P))
    x_mask, y_mask = rng.random((clips, N)) < 0.7, rng.random((captions, P)) < 0.7
    x_mask[3] = y_mask[4] = False
    x_mask[:, 0] = y_mask[:, 0] = True
    x_mask[2] = y_mask[1] = False
    return [v.astype(dtype) for v in (x, y, x_gate, y_gate)], (x_mask, y_mask)


def defined(x, y, x_gate, y_gate, temperature, masks, pool, direction):
    """The formula, word for word."""
    x_mask, y_mask = masks
    a = jnp.einsum("bnd,cpd->bcnp", x, y)
    mask = jnp.broadcast_to(x_mask[:, None, :, None] & y_mask[None, :, None, :], a.shape)
    gamma, beta = (
        jnp.where(valid.any(1, keepdims=True), jax.nn.softmax(jnp.where(valid, gate, -1e9)), 0)
        for gate, valid in ((x_gate, x_mask), (y_gate, y_mask))
    )
    options = pool_options(pool, temperature)
    there = jnp.einsum("cp,bcp->bc", beta, pooled(a, mask, axis=2, **options))
    back = jnp.einsum("bn,bcn->bc", gamma, pooled(a, mask, axis=3, **options))
    return {"y_to_x": there, "x_to_y": back, "symmetric": (there + back) / 2}[direction]


def scored(x, y, x_gate, y_gate, temperature, masks, pool, direction, **options):
    gates = {"x_gate": x_gate, "y_gate": y_gate}
    unweighed = {"y_to_x": "x_gate", "x_to_y": "y_gate", "symmetric": None}[direction]
    gates = {name: gate for name, gate in gates.items() if name != unweighed}
    options |= {**pool_options(pool, temperature), "direction": direction}
    return clip_similarity(x, y, *masks, **gates, **options).values


def values_and_gradients(score, masks, directions=DIRECTIONS, **options):
    """A function of x, y, both gates and the temperature: scores, and the gradients of them all."""

    def scores(*arguments):
        return [score(*arguments, masks, direction=each, **options) for each in directions]

    @jax.jit
    def compute(*arguments):
        values, pull_back = jax.vjp(scores, *arguments)
        cotangents = [
            jnp.cos(jnp.arange(v.size) + k).reshape(v.shape) for k, v in enumerate(values)
        ]
        cotangents = [v.astype(values[0].dtype) for v in cotangents]
        return values, pull_back(cotangents)

    return compute


def check_equal(found, expected, tolerance):
    for actual, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # Outside of enable_x64 a difference of jax arrays would be rounded to float32.
        actual, wanted = np.asarray(actual), np.asarray(wanted)
        size = max(np.linalg.norm(wanted), 1e-3)
        assert np.linalg.norm(actual - wanted) <= tolerance * size


@pytest.mark.parametrize("pool", POOLS)
def test_values_and_gradients_are_those_of_the_definition(pool):
    arguments, masks = inputs()
    compute = {
        name: values_and_gradients(scored, masks, pool=pool, implementation=name, block=block)
        for name, block in IMPLEMENTATIONS.items()
    }
    definition = values_and_gradients(defined, masks, pool=pool)
    for temperature in (1e-3, 0.1, 1e3):
        given = [*arguments, np.asarray(temperature)]
        with jax.enable_x64(True):
            expected = jax.device_get(definition(*given))
            assert len(jax.tree.leaves(expected)) == 3 + 5
            for found in (compute[name](*given) for name in IMPLEMENTATIONS):
                check_equal(found, expected, 1e-10)
        # At 1e-3 the rounding of a is 1e-4 of the temperature.
        if temperature >= 0.1 and pool in ("logsumexp", "max"):
            found = compute["blockwise"](*(np.float32(v) for v in given))
            assert found[0][0].dtype == np.float32
            check_equal(found, expected, 1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_mask_is_a_mask_of_everything(implementation):
    arguments, _ = inputs(np.float32)
    arguments.append(np.float32(0.1))
    everything = np.ones((B, N), bool), np.ones((C, P), bool)
    options = {"pool": "logsumexp", "implementation": implementation}
    with_masks = values_and_gradients(scored, everything, **options)(*arguments)
    check_equal(values_and_gradients(scored, (None, None), **options)(*arguments), with_masks, 1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_gate_may_be_on_one_side_alone(implementation):
    """The other side has the weights that it has without gates."""
    (x, y, x_gate, y_gate), masks = inputs(np.float32)
    pooling = {"pool": "logsumexp", "temperature": 0.1, "implementation": implementation}
    softmax = {"weighting": "softmax", "phrase_temperature": 0.2}

    def score(**options):
        return clip_similarity(x, y, *masks, **pooling, **options).values

    there, back = score(direction="y_to_x", y_gate=y_gate), score(direction="x_to_y", x_gate=x_gate)
    for other in ({}, softmax):
        of_y = score(direction="symmetric", y_gate=y_gate, **other)
        np.testing.assert_allclose(
            of_y, (there + score(direction="x_to_y", **other)) / 2, atol=1e-6
        )
        of_x = score(direction="symmetric", x_gate=x_gate, **other)
        np.testing.assert_allclose(of_x, (score(direction="y_to_x", **other) + back) / 2, atol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_gate_of_equal_logits_changes_nothing(implementation):
    (x, y, *_), masks = inputs(np.float32)
    for pool in POOLS:
        options = {**pool_options(pool, 0.1), "direction": "symmetric"}
        options["implementation"] = implementation
        gates = {"x_gate": np.full((B, N), 3.0), "y_gate": np.zeros((C, P))}
        found = clip_similarity(x, y, *masks, **options, **gates)
        expected = clip_similarity(x, y, *masks, **options)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("temperature", [1e-4, 0.1, 1e4])
def test_extreme_logits_leave_one_entry_and_finite_gradients(implementation, temperature):
    (x, y, x_gate, y_gate), (x_mask, y_mask) = inputs(np.float32)
    x_gate, y_gate = (
        np.where(gate == gate.max(1, keepdims=True), 1e4, -1e4) for gate in (x_gate, y_gate)
    )
    everything = np.ones_like(x_mask), np.ones_like(y_mask)
    options = {"pool": "logsumexp", "implementation": implementation}
    given = x, y, np.float32(x_gate), np.float32(y_gate), np.float32(temperature)
    found, gradients = values_and_gradients(scored, everything, **options)(*given)
    chosen_y = y[np.arange(C), y_gate.argmax(1)][:, None]
    of_chosen = clip_similarity(x, chosen_y, pool="logsumexp", temperature=temperature)
    np.testing.assert_allclose(found[0], of_chosen.values, atol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # Masked, they may be anything.
    for masks in ((x_mask, y_mask), (np.zeros_like(x_mask), y_mask)):
        _, gradients = values_and_gradients(scored, masks, **options)(*given)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_is_masked_has_no_influence_and_no_gradient(implementation):
    (x, y, x_gate, y_gate), (x_mask, y_mask) = inputs(np.float32)
    options = {"pool": "softmax", "implementation": implementation, "directions": ("symmetric",)}
    compute = values_and_gradients(scored, (x_mask, y_mask), **options)
    (expected,), _ = compute(x, y, x_gate, y_gate, np.float32(0.1))
    x_gate, y_gate = np.where(x_mask, x_gate, np.nan), np.where(y_mask, y_gate, np.inf)
    (found,), (_, _, dx_gate, dy_gate, _) = compute(x, y, x_gate, y_gate, np.float32(0.1))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.any(np.asarray(found)[2])
    assert not np.any(np.asarray(found)[:, 1])
    assert not np.any(np.asarray(dx_gate)[~x_mask])
    assert not np.any(np.asarray(dy_gate)[~y_mask])
    # Clip 3 and caption 4 have one valid entry, whose logit cannot matter.
    assert not np.any(np.asarray(dx_gate)[3])
    assert not np.any(np.asarray(dy_gate)[4])
    assert np.any(np.asarray(dx_gate)[0])
    assert np.any(np.asarray(dy_gate)[0])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("pool", POOLS)
def test_one_local_embedding_and_one_phrase_make_it_info_nce(implementation, pool):
    (x, y, x_gate, y_gate), _ = inputs(np.float32, captions=B)

    def loss(x_gate, y_gate):
        options = {**pool_options(pool, 0.1), "direction": "symmetric"}
        gates = {"x_gate": x_gate, "y_gate": y_gate}
        S = clip_similarity(x[:, :1], y[:, :1], **options, **gates, implementation=implementation)
        return info_nce(S, temperature=0.07)

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(x_gate[:, :1], y_gate[:, :1])
    expected = info_nce(x[:, 0] @ y[:, 0].T, temperature=0.07)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert not np.any(gradients[0])
    assert not np.any(gradients[1])


def test_scores_do_not_depend_on_the_rest_of_the_gallery():
    (x, y, x_gate, y_gate), (x_mask, y_mask) = inputs(np.float32)
    order = np.random.default_rng(1).permutation(C)
    options = {"pool": "logsumexp", "temperature": 0.1, "direction": "symmetric"}

    def score(captions):
        masks = x_mask, y_mask[captions]
        gates = {"x_gate": x_gate, "y_gate": y_gate[captions]}
        return np.asarray(clip_similarity(x, y[captions], *masks, **gates, **options).values)

    expected = score(np.arange(C))
    np.testing.assert_allclose(score(order), expected[:, order], atol=1e-6)
    np.testing.assert_allclose(score(order[:2]), expected[:, order[:2]], atol=1e-6)


def test_weights_sum_to_one_in_float32():
    gate = jnp.array([[1e4, 0, -1e4], [3, 3, 3], [1, 2, 5], [0, 0, 0]], jnp.bfloat16)
    mask = jnp.array([[True] * 3, [True, True, False], [False, False, True], [False] * 3])
    weights = gate_weights(gate, mask)
    assert weights.dtype == jnp.float32
    expected = [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_array_equal(weights, expected)
    np.testing.assert_allclose(
        gate_weights(gate)[2], np.exp([-4, -3, 0]) / np.exp([-4, -3, 0]).sum()
    )


def test_a_gate_without_a_use_is_refused():
    (x, y, x_gate, y_gate), _ = inputs(np.float32)
    with pytest.raises(ValueError, match="x_gate needs direction 'x_to_y' or 'symmetric'"):
        clip_similarity(x, y, pool="max", x_gate=x_gate)
    with pytest.raises(ValueError, match="y_gate needs direction 'y_to_x' or 'symmetric'"):
        clip_similarity(x, y, pool="max", direction="x_to_y", y_gate=y_gate)
    softmax = {"weighting": "softmax", "phrase_temperature": 0.1}
    with pytest.raises(ValueError, match="weighting 'softmax' has no effect: every weighed side"):
        clip_similarity(x, y, pool="max", y_gate=y_gate, **softmax)


def test_second_derivatives_are_those_of_dense():
    with jax.enable_x64(True):
        arguments, masks = inputs()

        def curvature(implementation):
            def loss(*arguments):
                options = {"pool": "softmax", "direction": "symmetric"}
                S = scored(*arguments, 0.3, masks, **options, implementation=implementation)
                return jnp.sum(S**2)

            every = tuple(range(4))
            slope = jax.grad(loss, every)
            return jax.jit(jax.grad(lambda *at: sum(jnp.sum(g**2) for g in slope(*at)), every))

        check_equal(curvature("blockwise")(*arguments), curvature("dense")(*arguments), 1e-9)


def gated_losses(gates, x, y, masks, *, axis_name=None, exchange="gather"):
    """One loss a pool, in all directions; pools take turns with implementations."""
    x_gate, y_gate = gates
    valid = masks[0].any(1) & masks[1].any(1)
    across = {"axis_name": axis_name, "exchange": exchange}
    losses = {}
    for k, pool in enumerate(POOLS):
        implementation = "dense" if axis_name is None else ("blockwise", "dense")[k % 2]
        options = {"implementation": implementation, **across}
        S = sum(
            scored(x, y, x_gate, y_gate, 0.2, masks, pool, direction, **options)
            for direction in DIRECTIONS
        )
        losses[pool] = info_nce(S, temperature=0.3, valid=valid, axis_name=axis_name)
    return sum((k + 1) * losses[pool] for k, pool in enumerate(POOLS))


@functools.cache
def on_one_device(locals_):
    with jax.enable_x64(True):
        given = sharded_inputs(locals_)
        return jax.device_get(jax.jit(jax.value_and_grad(gated_losses, (0, 1, 2)))(*given))


def sharded_inputs(locals_, dtype=np.float64):
    """Of 16 clips with so many local embeddings."""
    (x, y, x_gate, y_gate), (x_mask, y_mask) = inputs(dtype, clips=16, captions=16)
    x, y = (np.concatenate([v] * 3, axis=2) for v in (x, y))
    some = slice(0, locals_)
    return (x_gate[:, some], y_gate), x[:, some], y, (x_mask[:, some], y_mask)


@pytest.mark.parametrize(
    ("exchange", "locals_", "dtype"),
    [
        pytest.param("gather", N, np.float64, marks=pytest.mark.long),
        pytest.param("gather", 1, np.float64, marks=pytest.mark.long),
        ("ring", N, np.float64),
        pytest.param("ring", N, np.float32, marks=pytest.mark.long),
    ],
)
def test_over_devices_it_is_that_of_one_device(exchange, locals_, dtype):
    """Phrases travel, or a single local embedding does."""
    expected = on_one_device(locals_)
    with jax.enable_x64(dtype == np.float64):
        given = sharded_inputs(locals_, dtype)
        sides = {"x": jnp.asarray(given[1][:2]), "y": jnp.asarray(given[2][:2])}
        assert all(x_travels(sides, returned) == (locals_ == 1) for returned in (1, 2))
        mesh = Mesh(np.array(jax.devices()), ("data",))
        over_mesh = sharded(gated_losses, mesh, exchange=exchange)
        found = jax.jit(jax.value_and_grad(over_mesh, (0, 1, 2)))(*given)
    check_equal(found, expected, 1e-10 if dtype == np.float64 else 1e-5)
