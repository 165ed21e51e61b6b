"""Similarities without a in memory: computed in blocks, and again in the backward pass.

The clips of each side are cut into groups. A block compares a group of b clips with one of c
captions: one product [b·N, D] × [D, P·c], pooled at once. It stays in cache, and only pooled
results are kept. The backward pass computes the product again and takes derivatives from their
closed forms (``pools``). That costs four products; with a in memory there would be three.

Within a block a is [b, N, P, c]: with captions as the last axis, both n and p are pooled across
vector registers, not along them. Pooled arrays keep all four axes, some of length 1.

N and P are never cut, so that everything a score depends on is in one block. Groups are padded with
clips of zeros, which have similarity zero and add zero to every gradient.

Derivatives are those of reverse mode; forward mode is refused. A second derivative is right but
keeps every block.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from fgmm.losses.collectives import varying_alike
from fgmm.losses.pools import CLOSED_FORMS, Pooling
from fgmm.losses.reverse_mode import reverse_mode_only

# Bytes of a in a block. On a CPU a block and its results share the cache; an accelerator needs
# products large enough to fill it.
_BLOCK_BYTES = {"cpu": 4 << 20}
_BLOCK_BYTES_OF_ACCELERATORS = 128 << 20
# The fewest captions in a block, since they are its vectorised axis.
_VECTOR = 16

_FORWARD_MODE = (
    "implementation 'blockwise', the default above 256 KiB of local similarities, has derivatives "
    "of reverse mode alone; for forward mode (jax.jvp, jax.jacfwd) pass implementation='dense'"
)

# Axes of a block.
_N, _P = 1, 2


def similarities(
    x: Float[Array, "B N D"],
    y: Float[Array, "C P D"],
    x_mask: Bool[Array, "B N"] | None,
    y_mask: Bool[Array, "C P"] | None,
    temperature: Float[Array, ""] | None,
    weights_temperature: Float[Array, ""] | None,
    x_weights: Float[Array, "B N"] | None = None,
    y_weights: Float[Array, "C P"] | None = None,
    *,
    pooling: Pooling,
    block: tuple[int, int] | None = None,
) -> tuple[Float[Array, "B C *P"] | None, Float[Array, "B C"] | None]:
    """Streams both directions at once: s, pooled over n, and S, pooled over p and then over n.

    Args:
      x, y, x_mask, y_mask: as in ``similarity.pooled_similarity``.
      temperature: of the pool; None if it has none.
      weights_temperature: of the pool over n that follows the one over p; None if it has none.
      x_weights: of the sum over n that follows the pool over p, if ``pooling.weights`` is 'given'.
      y_weights: of the sum over p that follows the pool over n, if ``pooling.weighs_phrases``. All
        weights of masked entries must be 0.
      pooling: what is wanted.
      block: clips and captions in a block; None for ``choose_block``.

    Returns:
      s, or its weighted sum [B,C], and S, each None unless wanted, in float32 or wider. They are 0
      where nothing is valid.
    """
    (B, N, _), (C, P, _) = x.shape, y.shape
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    temperature, weights_temperature = (
        jnp.asarray(1 if t is None else t, dtype) for t in (temperature, weights_temperature)
    )
    x_weights, y_weights = (w if w is None else w.astype(dtype) for w in (x_weights, y_weights))
    filled_x, x_valid = _filled(x, x_mask, dtype)
    filled_y, y_valid = _filled(y, y_mask, dtype)

    # The mean over n of a is a of the mean over n, and so is any pool over a single entry.
    s = S = None
    linear = pooling.pool == "mean"
    einsum = functools.partial(jnp.einsum, precision=pooling.precision)
    if pooling.y_to_x and (linear or N == 1):
        mean = _mean(filled_x, x_valid, dtype)
        if pooling.weighs_phrases:
            s = einsum("bd,cd->bc", mean, _weighted_sum(filled_y, y_weights, dtype))
        else:
            s = einsum("bd,cpd->bcp", mean, filled_y.astype(dtype))
        pooling = pooling._replace(y_to_x=False, weighs_phrases=False)
    if pooling.weights is not None and (linear or P == 1):
        mean = _mean(filled_y, y_valid, dtype)
        if pooling.weights == "mean":
            S = einsum("bd,cd->bc", _mean(filled_x, x_valid, dtype), mean)
        elif pooling.weights == "given":
            S = einsum("bd,cd->bc", _weighted_sum(filled_x, x_weights, dtype), mean)
        else:
            over_n = Pooling(pooling.weights, True, None, pooling.precision)
            of_mean = x, mean[:, None], x_mask, None, weights_temperature, None
            S = similarities(*of_mean, pooling=over_n, block=block)[0][:, :, 0]
        pooling = pooling._replace(weights=None)
    if pooling.y_to_x or pooling.weights is not None:
        b, c = choose_block(B, C, N, P, dtype.itemsize) if block is None else block
        streamed = _in_blocks(
            _Shape(min(b, B), N, P, min(c, C)),
            *(pooling, filled_x, filled_y, (x_valid, y_valid)),
            (temperature, weights_temperature),
            (
                x_weights if pooling.weights == "given" else None,
                y_weights if pooling.weighs_phrases else None,
            ),
        )
        s, S = (other if one is None else one for one, other in zip(streamed, (s, S), strict=True))
    if s is not None and s.ndim == 3 and y_mask is not None:
        s = jnp.where(y_mask, s, 0)
    return s, S


def choose_block(B: int, C: int, N: int, P: int, itemsize: int = 4) -> tuple[int, int]:
    """The size of a block: about as many rows b·N as columns P·c, within the budget."""
    budget = _BLOCK_BYTES.get(jax.default_backend(), _BLOCK_BYTES_OF_ACCELERATORS) // itemsize
    c = min(C, max(_VECTOR, round(math.sqrt(budget) / P)))
    b = max(1, min(B, budget // (N * P * c)))
    # Threads share a power of two evenly, and batches are powers of two.
    b = 1 << b.bit_length() - 1
    c = max(c, min(C, budget // (N * P * b)))
    return _evened(B, b), _evened(C, c)


def _evened(clips, group):
    """The size of as many groups with the least padding."""
    return math.ceil(clips / math.ceil(clips / group))


class _Shape(NamedTuple):
    """The shape of a block of a."""

    b: int
    N: int
    P: int
    c: int


def _in_blocks(shape, pooling, x, y, valid, temperatures, weights):
    """Arranges both sides in groups for ``_streamed``, and its results without groups."""
    B, C, D = len(x), len(y), x.shape[2]
    b, N, P, c = shape
    if x.dtype != y.dtype:
        x, y = x.astype(temperatures[0].dtype), y.astype(temperatures[0].dtype)
    x = _grouped(x, b).reshape(-1, b * N, D)
    y = jnp.transpose(_grouped(y, c), (0, 3, 2, 1)).reshape(-1, D, P * c)
    x_valid, y_valid = valid
    valid = _of_clips(x_valid, b, fill=1), _of_captions(y_valid, c, fill=1)
    weights = _of_clips(weights[0], b), _of_captions(weights[1], c)
    x, y, temperatures, weights = reverse_mode_only((x, y, temperatures, weights), _FORWARD_MODE)
    operands = varying_alike((x, y, valid, temperatures, weights))
    s, *scores = _streamed(shape, pooling, *operands)
    clips, captions = len(x) * b, len(y) * c
    if s is not None:
        s = jnp.transpose(s, (0, 2, 3, 1, 5, 4)).reshape(clips, captions, P)[:B, :C]
    weighted, S = (
        v if v is None else jnp.transpose(v, (0, 2, 3, 4, 1, 5)).reshape(clips, captions)[:B, :C]
        for v in scores
    )
    return s if weighted is None else weighted, S


def _of_clips(v, b, fill=0):
    """[B,N] as [B/b,b,N,1,1], to be broadcast against blocks; None stays None."""
    return v if v is None else _grouped(v, b, fill)[:, :, :, None, None]


def _of_captions(v, c, fill=0):
    """[C,P] as [C/c,1,1,P,c]."""
    return v if v is None else jnp.swapaxes(_grouped(v, c, fill), 1, 2)[:, None, None]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _WantedGradients:
    """The arguments whose gradients are needed; known when a derivative is traced."""

    x: bool = False
    y: bool = False
    temperature: bool = False
    weights_temperature: bool = False
    x_weights: bool = False
    y_weights: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _streamed(shape, pooling, x, y, valid, temperatures, weights):
    """Of x [B/b, b·N, D] and y [C/c, D, P·c]: s [B/b, C/c, b, 1, P, c] or its weighted sum over p,
    and S, both [B/b, C/c, b, 1, 1, c].
    """
    arguments = x, y, valid, temperatures, weights
    statistics, scores = _forward(shape, pooling, _WantedGradients(), *arguments)
    return statistics and statistics[0], *scores


def _streamed_forward(shape, pooling, *arguments):
    """The forward pass, with the residuals of the backward pass."""
    x, y, _, temperatures, weights = arguments
    wanted = _WantedGradients(
        *(v is not None and v.perturbed for v in (x, y, *temperatures, *weights))
    )
    arguments = jax.tree.map(lambda argument: argument.value, arguments)
    statistics, scores = _forward(shape, pooling, wanted, *arguments)
    return (statistics and statistics[0], *scores), (wanted, statistics, arguments)


def _forward(shape, pooling, wanted, x, y, valid, temperatures, weights):
    def group_of_clips(_, clips):
        x, x_valid, x_weights = clips

        def block(_, captions):
            y, y_valid, y_weights = captions
            a = _product(x, y, (1, 0), pooling).reshape(shape)
            masks, shares = (x_valid, y_valid), (x_weights, y_weights)
            return None, pooled_block(a, masks, shares, temperatures, pooling, wanted)

        return None, lax.scan(block, None, (y, valid[1], weights[1]))[1]

    return lax.scan(group_of_clips, None, (x, valid[0], weights[0]))[1]


def _streamed_backward(shape, pooling, residuals, cotangents):
    wanted, statistics, (x, y, valid, temperatures, weights) = residuals
    y_rows = jnp.swapaxes(y, 1, 2)

    def zeros(shape):
        return varying_alike((jnp.zeros(shape, temperatures[0].dtype), x))[0]

    def instantiated(cotangent):
        symbolic = isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
        return zeros(cotangent.shape) if symbolic else cotangent

    cotangents = jax.tree.map(instantiated, cotangents)

    def group_of_clips(carry, clips):
        x, x_valid, x_weights, statistics, cotangents = clips
        of_captions, dt = carry

        def block(carry, captions):
            of_clips, of_captions, dt = carry
            j, y, y_rows, y_valid, y_weights, statistics, cotangents = captions
            a = _product(x, y, (1, 0), pooling).reshape(shape)
            masks, shares = (x_valid, y_valid), (x_weights, y_weights)
            da, found, dx_weights, dy_weights = block_derivatives(
                *(a, masks, shares, temperatures, pooling, wanted, statistics, cotangents)
            )
            da = da.reshape(shape.b * shape.N, shape.P * shape.c)
            dx = _product(*_alike(da, y_rows), (1, 0), pooling) if wanted.x else None
            dy = _product(*_alike(x, da), (0, 0), pooling) if wanted.y else None

            def add_to_group(total, more):
                more += lax.dynamic_index_in_dim(total, j, 0, keepdims=False)
                return lax.dynamic_update_index_in_dim(total, more, j, 0)

            of_clips = jax.tree.map(jnp.add, of_clips, (dx, dx_weights))
            of_captions = jax.tree.map(add_to_group, of_captions, (dy, dy_weights))
            return (of_clips, of_captions, jax.tree.map(jnp.add, dt, found)), None

        of_clips = (
            zeros(x.shape) if wanted.x else None,
            zeros(x_weights.shape) if wanted.x_weights else None,
        )
        captions = (jnp.arange(len(y)), y, y_rows, valid[1], weights[1], statistics, cotangents)
        (of_clips, *carry), _ = lax.scan(block, (of_clips, of_captions, dt), captions)
        dx, dx_weights = of_clips
        return tuple(carry), (dx.astype(x.dtype) if wanted.x else None, dx_weights)

    of_captions = (
        zeros(y.shape) if wanted.y else None,
        zeros(weights[1].shape) if wanted.y_weights else None,
    )
    clips = (x, valid[0], weights[0], statistics, cotangents)
    (of_captions, dt), (dx, dx_weights) = lax.scan(
        group_of_clips, (of_captions, (zeros(()), zeros(()))), clips
    )
    dy, dy_weights = of_captions
    return dx, dy.astype(y.dtype) if wanted.y else None, None, dt, (dx_weights, dy_weights)


_streamed.defvjp(_streamed_forward, _streamed_backward, symbolic_zeros=True)


class _Direction(NamedTuple):
    """A score of a block: pooled along one axis, then by ``weights`` along the other.

    Attributes:
      along: the axis of the pool.
      other: that of the weights.
      weights: the closed form of the pool that follows.
      side: 0 if the weights are of x, 1 if they are of y.
      given: whether they are arguments.
    """

    along: int
    other: int
    weights: type
    side: int
    given: bool


def _directions(pooling):
    """The steps to a score [b,1,1,c] in a block: of y_to_x and of x_to_y, None for neither."""
    weights = pooling.weights
    return (
        _Direction(_N, _P, CLOSED_FORMS["given"], 1, True) if pooling.weighs_phrases else None,
        _Direction(_P, _N, CLOSED_FORMS[weights], 0, weights == "given") if weights else None,
    )


def pooled_block(a, valid, shares, temperatures, pooling, wanted):
    """The forward pass of a block of a, [b,N,P,c].

    Args:
      valid: 1 for valid n, [b,N,1,1], and for valid p, [1,1,P,c], else 0; None if all are valid.
      shares: weights from outside of n and of p, in the same shapes; None where there are none.
      temperatures: of the pool and of the weights.

    Returns:
      s [b,1,P,c] with its residuals, ∂s/∂temperature among them; and the scores [b,1,1,c] of
        ``_directions``.
    """
    pool = CLOSED_FORMS[pooling.pool]
    statistics = None
    if pooling.y_to_x and not pooling.weighs_phrases:
        s, saved = pool.value(a, valid[0], temperatures[0], _N)
        slope = None
        if wanted.temperature:
            slope = pool.along_temperature(a, valid[0], temperatures[0], _N, s, saved)
        statistics = s, saved, slope

    def score(direction):
        along, other, weights, side, given = direction
        pooled, _ = pool.value(a, valid[1 - side], temperatures[0], along)
        counts = shares[side] if given else valid[side]
        return weights.value(pooled, counts, temperatures[1], other)[0]

    return statistics, [direction and score(direction) for direction in _directions(pooling)]


def block_derivatives(a, valid, shares, temperatures, pooling, wanted, statistics, cotangents):
    """The gradients of a block of a, of both temperatures, and of the weights of x and of y.

    Args:
      cotangents: of s and of the scores of ``pooled_block``. The others are as there.
    """
    pool = CLOSED_FORMS[pooling.pool]
    ds, *of_scores = cotangents
    da, dt, dt_weights, d_shares = 0, 0, 0, [None, None]
    if statistics is not None:
        s, saved, slope = statistics
        da = pool.along_a(a, valid[0], temperatures[0], _N, s, saved, ds)
        if wanted.temperature:
            dt = jnp.sum(slope * ds)
    for direction, dS in zip(_directions(pooling), of_scores, strict=True):
        if direction is None:
            continue
        along, other, weights, side, given = direction
        of_pool = a, valid[1 - side], temperatures[0], along
        pooled, saved = pool.value(*of_pool)
        of_weights = pooled, shares[side] if given else valid[side], temperatures[1], other
        S, saved_weights = weights.value(*of_weights)
        along_pooled = weights.along_a(*of_weights, S, saved_weights, dS)
        da += pool.along_a(*of_pool, pooled, saved, along_pooled)
        if wanted.temperature:
            dt += jnp.sum(pool.along_temperature(*of_pool, pooled, saved) * along_pooled)
        if wanted.weights_temperature and not given:
            dt_weights = jnp.sum(weights.along_temperature(*of_weights, S, saved_weights) * dS)
        if given and (wanted.x_weights, wanted.y_weights)[side]:
            # Weights of n are shared by all captions of the block, those of p by all clips.
            d_shares[side] = jnp.sum(pooled * dS, axis=0 if side else 3, keepdims=True)
    return da, (dt, dt_weights), *d_shares


def _product(u, v, contracted, pooling):
    dtype = jnp.promote_types(jnp.promote_types(u.dtype, v.dtype), jnp.float32)
    axes = tuple((axis,) for axis in contracted), ((), ())
    return lax.dot_general(u, v, axes, precision=pooling.precision, preferred_element_type=dtype)


def _alike(u, v):
    """The operands of a product in one dtype.

    It is bfloat16 for bfloat16 embeddings, since their gradients have that dtype in the end and its
    products are fast. float16 lacks the range.
    """
    narrow = jnp.bfloat16 in (u.dtype, v.dtype)
    dtype = jnp.bfloat16 if narrow else jnp.promote_types(u.dtype, v.dtype)
    return u.astype(dtype), v.astype(dtype)


def _filled(v, mask, dtype):
    """Embeddings without masked ones, and 1 for valid ones, 0 for others, or None if all are valid.

    A masked embedding is replaced by the first valid one of its clip. A clip without any has zeros,
    which all count as valid. So nothing is infinite, no set is empty, and extremes need no mask.
    """
    if mask is None:
        return v, None
    some = mask.any(1, keepdims=True)
    first = jnp.take_along_axis(v, jnp.argmax(mask, 1)[:, None, None], axis=1)
    first = lax.stop_gradient(jnp.where(some[:, :, None], first, 0))
    return jnp.where(mask[:, :, None], v, first), (mask | ~some).astype(dtype)


def _mean(v, valid, dtype):
    """The mean of the valid ones."""
    v = v.astype(dtype)
    if valid is None:
        return v.mean(1)
    return jnp.sum(v * valid[:, :, None], axis=1) / jnp.sum(valid, axis=1, keepdims=True)


def _weighted_sum(v, weights, dtype):
    return jnp.sum(v.astype(dtype) * weights[:, :, None], axis=1)


def _grouped(v, group, fill=0):
    """[B, ...] as [B/group, group, ...], filled up."""
    padding = [(0, -len(v) % group), *[(0, 0)] * (v.ndim - 1)]
    return jnp.pad(v, padding, constant_values=fill).reshape(-1, group, *v.shape[1:])
