"""Streaming: equal to the dense definition, in memory that does not grow with N·P, anywhere."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from fgmm.losses import clip_similarity, contrastive, pooled_similarity
from fgmm.losses.blockwise import choose_block, choose_block_of_phrases
from fgmm.losses.dense import POOLS
from fgmm.losses.layouts import BlockShape, ValidPhrases
from fgmm.losses.objective import Objective, TermEntry
from fgmm.losses.similarity import DIRECTIONS, WEIGHTINGS
from fgmm.losses.terms import info_nce
from tests.losses.loss_definition import pool_options, weighting_options

B, C, N, P, D = 5, 7, 6, 3, 4
BLOCK = (2, 3)  # divides neither B nor C


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def inputs():
    """Unit vectors, one of them zero, and masks; one clip and one caption are wholly masked."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(B, N, D)), rng.normal(size=(C, P, D))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    x_mask, y_mask = rng.random((B, N)) < 0.7, rng.random((C, P)) < 0.7
    x_mask[:, 0] = y_mask[:, 0] = True
    x_mask[2] = y_mask[1] = False
    x[0, 0] = 0
    return x, y, x_mask, y_mask


def scores_and_gradients(
    implementation, block, masks, pool, weighting, directions=DIRECTIONS, **options
):
    """A function of x, y, temperature and phrase temperature: scores, and gradients of them all."""

    def scores(*arguments):
        x, y, temperature, phrase_temperature = arguments
        return [
            clip_similarity(
                *(x, y, *masks),
                **pool_options(pool, temperature),
                **weighting_options(weighting, phrase_temperature),
                direction=direction,
                implementation=implementation,
                block=block,
                **options,
            ).values
            for direction in directions
        ]

    @jax.jit
    def values_and_gradients(*arguments):
        values, pullback = jax.vjp(scores, *arguments)
        cotangents = [jnp.cos(jnp.arange(B * C) + k).reshape(B, C) for k in range(3)]
        return values, pullback(cotangents[: len(directions)])

    return values_and_gradients


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("pool", POOLS)
def test_every_direction_is_as_dense(float64, inputs, pool, weighting):
    x, y, *masks = inputs
    options = {"masks": masks, "pool": pool, "weighting": weighting}
    dense = scores_and_gradients("dense", None, **options)
    blockwise = scores_and_gradients("blockwise", BLOCK, **options)
    for temperature in (1e-3, 0.1, 1e3):
        arguments = x, y, np.array(temperature), np.array(temperature)
        expected, found = jax.tree.leaves(dense(*arguments)), jax.tree.leaves(blockwise(*arguments))
        assert len(expected) == 3 + 4
        for wanted, actual in zip(expected, found, strict=True):
            size = max(np.linalg.norm(wanted), 1e-3)
            assert np.linalg.norm(actual - wanted) <= 1e-10 * size


@pytest.mark.parametrize("pool", POOLS)
def test_no_mask_is_a_mask_of_everything(inputs, pool):
    x, y, *_ = inputs
    arguments = np.float32(x), np.float32(y), np.float32(0.1), np.float32(0.1)
    all_valid = np.ones((B, N), bool), np.ones((C, P), bool)
    directions = ("y_to_x",) if pool == "logsumexp" else ("symmetric",)
    options = {"pool": pool, "weighting": "softmax", "directions": directions}
    with_masks = scores_and_gradients("blockwise", BLOCK, all_valid, **options)(*arguments)
    without = scores_and_gradients("blockwise", BLOCK, (None, None), **options)(*arguments)
    for wanted, actual in zip(jax.tree.leaves(with_masks), jax.tree.leaves(without), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["x", "y", "temperature"])
def test_each_gradient_is_the_same_alone(inputs, side):
    x, y, *masks = inputs
    argument = ["x", "y", "temperature"].index(side)

    @functools.partial(jax.jit, static_argnames="argnums")
    def gradients(argnums):
        def loss(x, y, temperature):
            options = {"pool": "softmax", "direction": "symmetric", "implementation": "blockwise"}
            s = clip_similarity(x, y, *masks, temperature=temperature, **options)
            return jnp.sum(s.values**2)

        return jax.grad(loss, argnums)(jnp.float32(x), jnp.float32(y), jnp.float32(0.1))

    together = gradients((0, 1, 2))[argument]
    np.testing.assert_allclose(gradients((argument,))[0], together, rtol=1e-5, atol=1e-7)


def test_groups_without_a_valid_phrase_are_skipped():
    """Of twenty phrases in groups of three, seven are valid, for each of two groups of clips."""
    places = ValidPhrases.places(jnp.int32(7), BlockShape(2, N, 1, 3), 4, 20)
    np.testing.assert_array_equal(places, [[0, 1, 2, 7, 7, 7, 7]] * 2)
    y = jnp.zeros((7, D, 3))
    assert choose_block_of_phrases(256, 4096, 196) == (16, 256)
    assert choose_block_of_phrases(64, 1024, 196) == (16, 96)
    assert choose_block_of_phrases(5, 21, 6) == (3, 16)
    compute = jax.jit(lambda place: ValidPhrases.computed(place, y, lambda: jnp.ones(2) / place))
    np.testing.assert_array_equal(compute(2), [0.5, 0.5])
    np.testing.assert_array_equal(compute(7), [0, 0])


@pytest.mark.parametrize("direction", ["symmetric", pytest.param("y_to_x", marks=pytest.mark.long)])
def test_second_derivatives_are_those_of_dense(float64, inputs, direction):
    x, y, *masks = inputs

    def loss(implementation, x, temperature):
        options = {"pool": "softmax", "direction": direction, "implementation": implementation}
        s = clip_similarity(x, y, *masks, temperature=temperature, **options)
        return jnp.sum(s.values**2)

    def curvature(implementation):
        slope = jax.grad(functools.partial(loss, implementation), argnums=(0, 1))
        length = jax.jit(jax.grad(lambda *at: sum(jnp.sum(g**2) for g in slope(*at)), (0, 1)))
        return length(x, 0.3)

    for wanted, actual in zip(curvature("dense"), curvature("blockwise"), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-10)


def test_within_shard_map_it_is_what_it_is_outside(inputs):
    """Clips are spread over devices, captions and the temperature are on all of them."""
    x, y, _, y_mask = inputs
    x, y = jnp.float32(np.tile(x, (4, 1, 1))[:16]), jnp.float32(y)

    def loss(x, y, temperature):
        options = {"pool": "softmax", "temperature": temperature, "implementation": "blockwise"}
        whole = clip_similarity(x, y, direction="symmetric", **options).values
        masked = clip_similarity(x, y, None, jnp.asarray(y_mask), **options).values
        return jnp.sum(jnp.sin(3 * whole) + jnp.sin(2 * masked))

    spec = PartitionSpec("clips")
    mesh = jax.make_mesh((8,), ("clips",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(
        lambda x, y, t: jax.lax.psum(loss(x, y, t), "clips"),
        mesh=mesh,
        in_specs=(spec, PartitionSpec(), PartitionSpec()),
        out_specs=PartitionSpec(),
    )
    arguments = x, y, jnp.float32(0.1)
    expected = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*arguments)
    found = jax.jit(jax.value_and_grad(sharded, argnums=(0, 1, 2)))(*arguments)
    for wanted, actual in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_it_lowers_for_accelerators(platform):
    def loss(x, y, temperature):
        options = {"pool": "softmax", "direction": "symmetric", "implementation": "blockwise"}
        S = clip_similarity(x, y, temperature=temperature, **options)
        return contrastive.info_nce(S, temperature=0.07)

    sides = [jax.ShapeDtypeStruct((64, n, 128), "bfloat16") for n in (49, 16)]
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    exported = jax.export.export(step, platforms=[platform])(*sides, jnp.float32(0.1))
    assert [out.dtype for out in exported.out_avals] == ["float32", *["bfloat16"] * 2, "float32"]


sizes = st.integers(1, 3000)


@given(sizes, sizes, sizes, st.integers(1, 300), st.sampled_from([4, 8]))
@example(256, 256, 196, 16, 4)
@example(1, 1, 1, 1, 4)
def test_blocks_fit_the_cache_and_waste_little(clips, captions, locals_, phrases, itemsize):
    b, c = choose_block(clips, captions, locals_, phrases, itemsize)
    assert 1 <= b <= clips
    assert 1 <= c <= captions
    assert b == 1 or b * c * locals_ * phrases * itemsize <= 4 << 20
    for size, group in ((clips, b), (captions, c)):
        groups = math.ceil(size / group)
        assert groups * group - size < groups


class Head:
    """Embeddings of one modality, as shapes are all that is needed of them."""

    def __init__(self, local, coarse):
        self.local, self.coarse = local, coarse
        self.mask, self.gates = jnp.ones(local.shape[:-1], bool), None


def temporary_bytes(B, implementation, K=4, N=196, P=16, D=256):
    """Of the value and gradient of an objective: both directions, and a coarse term beside it."""
    options = {"space": "joint", "pair": "video_text"}
    fine = info_nce.Term(
        direction="symmetric", learn_attention_temperature=True, implementation=implementation
    )
    objective = Objective(
        {
            "fine": TermEntry(term=fine, level="fine", **options),
            "coarse": TermEntry(term=info_nce.Term(), level="coarse", **options),
        }
    )

    def loss(parameters, video, text, video_coarse, text_coarse, tokens):
        embeddings = {"video": Head(video, video_coarse), "text": Head(text, text_coarse)}
        batch = {"tokens": tokens, "phrase_ids": tokens}
        return objective(parameters, {"joint": embeddings}, batch, 0)[0]

    shapes = [(B, N, D), (B, K, P, D), (B, D), (B, K, D)]
    arguments = [jax.ShapeDtypeStruct(shape, "f4") for shape in shapes]
    arguments.append(jax.ShapeDtypeStruct((B, K, 8), "i4"))
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    return step.lower(objective.init(), *arguments).compile().memory_analysis().temp_size_in_bytes


def test_memory_of_an_objective_is_a_fortieth_of_dense():
    assert 40 * temporary_bytes(256, "blockwise") <= temporary_bytes(256, "dense")


def test_memory_grows_with_sides_and_scores_alone():
    """O(B·(N·K·P)·D + B·C·K·P): no more than a few copies of both sides and of the scores."""
    K, N, P, D = 4, 196, 16, 256
    constant = 64 << 20
    for clips in (128, 256, 512):
        sides, scores = 4 * clips * (N + K * P) * D, 4 * clips * clips * K * P
        assert temporary_bytes(clips, "blockwise") < constant + 3 * sides + 8 * scores


def test_the_mirrored_direction_keeps_nothing_for_each_local_embedding():
    """With one phrase s is as small as S, so that [B, C, N] would stand out."""
    clips, N = 256, 784

    def loss(x, y):
        options = {"pool": "softmax", "temperature": 0.1, "implementation": "blockwise"}
        return jnp.sum(clip_similarity(x, y, direction="x_to_y", **options).values ** 2)

    arguments = [jax.ShapeDtypeStruct((clips, n, 8), "f4") for n in (N, 2)]
    step = jax.jit(jax.grad(loss, argnums=(0, 1)))
    analysis = step.lower(*arguments).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 4 * clips * clips * N / 4


def test_small_a_is_dense_and_large_a_is_not():
    """What ``implementation=None`` stands for, seen from whether a is in the program."""

    def dense(clips):
        x = jax.ShapeDtypeStruct((clips, 50, 8), "f4")
        y = jax.ShapeDtypeStruct((clips, 10, 8), "f4")
        similarity = functools.partial(pooled_similarity, pool="max")
        return f"[{clips},{clips},50,10]" in str(jax.make_jaxpr(similarity)(x, y))

    assert dense(8)
    assert not dense(64)
