"""Similarities without a in memory: streamed in blocks, with a backward pass that makes them anew.

The clips of each side are cut into groups. A block is what a group of b clips and one of c captions
have to do with each other: one product [b·N, D] × [D, P·c], pooled at once. It stays in cache, and
nothing of it is kept but what was pooled. The backward pass makes the product once more and takes
derivatives from their closed forms (``pools``), at the cost of four products where three would do
with a in memory.

Within a block a is [b, N, P, c]: with captions as the last axis both n and p are pooled across
vectors of numbers, not along them. What is pooled keeps all four axes, some of length 1.

Neither N nor P is ever cut, so that all that a score depends on is in one block. Groups are filled
up with clips that are zero, whose similarities are zero, and so is what they add to any gradient.

Derivatives are those of reverse mode. A second derivative is right but keeps every block.
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

# Bytes of a in a block. On a CPU a block and what is made of it share the cache; an accelerator
# wants products large enough to fill it.
_BLOCK_BYTES = {"cpu": 4 << 20}
_BLOCK_BYTES_OF_ACCELERATORS = 128 << 20
# Captions in a block at least, being its vectorised axis.
_VECTOR = 16

# Axes of a block.
_N, _P = 1, 2


def similarities(
    x: Float[Array, "B N D"],
    y: Float[Array, "C P D"],
    x_mask: Bool[Array, "B N"] | None,
    y_mask: Bool[Array, "C P"] | None,
    temperature: Float[Array, ""] | None,
    weights_temperature: Float[Array, ""] | None,
    *,
    pooling: Pooling,
    block: tuple[int, int] | None = None,
) -> tuple[Float[Array, "B C P"] | None, Float[Array, "B C"] | None]:
    """Streams both directions at once: s, pooled over n, and S, pooled over p and then over n.

    Args:
      x, y, x_mask, y_mask: as in ``similarity.pooled_similarity``.
      temperature: of the pool; None if it has none.
      weights_temperature: of the pool over n that follows the one over p; None if it has none.
      pooling: what is wanted.
      block: clips and captions in a block; None for ``choose_block``.

    Returns:
      s and S, each None unless wanted, in float32 or wider. They are 0 where nothing is valid.
    """
    (B, N, _), (C, P, _) = x.shape, y.shape
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    temperature, weights_temperature = (
        jnp.asarray(1 if t is None else t, dtype) for t in (temperature, weights_temperature)
    )
    filled_x, x_valid = _filled(x, x_mask, dtype)
    filled_y, y_valid = _filled(y, y_mask, dtype)

    # The mean over n of a is a of the mean over n, and so is any pool over a single entry.
    s = S = None
    linear = pooling.pool == "mean"
    einsum = functools.partial(jnp.einsum, precision=pooling.precision)
    if pooling.y_to_x and (linear or N == 1):
        s = einsum("bd,cpd->bcp", _mean(filled_x, x_valid, dtype), filled_y.astype(dtype))
        pooling = pooling._replace(y_to_x=False)
    if pooling.weights is not None and (linear or P == 1):
        mean = _mean(filled_y, y_valid, dtype)
        if pooling.weights == "mean":
            S = einsum("bd,cd->bc", _mean(filled_x, x_valid, dtype), mean)
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
        )
        s, S = (other if one is None else one for one, other in zip(streamed, (s, S), strict=True))
    if s is not None and y_mask is not None:
        s = jnp.where(y_mask, s, 0)
    return s, S


def choose_block(B: int, C: int, N: int, P: int, itemsize: int = 4) -> tuple[int, int]:
    """Clips and captions in a block: about as many rows b·N as columns P·c, within the budget."""
    budget = _BLOCK_BYTES.get(jax.default_backend(), _BLOCK_BYTES_OF_ACCELERATORS) // itemsize
    c = min(C, max(_VECTOR, round(math.sqrt(budget) / P)))
    b = max(1, min(B, budget // (N * P * c)))
    # A power of two is what threads share evenly and batches are made of.
    b = 1 << b.bit_length() - 1
    c = max(c, min(C, budget // (N * P * b)))
    return _evened(B, b), _evened(C, c)


def _evened(clips, group):
    """The size of as many groups with the fewest zeros to fill them up."""
    return math.ceil(clips / math.ceil(clips / group))


class _Shape(NamedTuple):
    """The shape of a block of a."""

    b: int
    N: int
    P: int
    c: int


def _in_blocks(shape, pooling, x, y, valid, temperatures):
    """Arranges both sides in groups for ``_streamed``, and what it yields as if there were none."""
    B, C, D = len(x), len(y), x.shape[2]
    b, N, P, c = shape
    if x.dtype != y.dtype:
        x, y = x.astype(temperatures[0].dtype), y.astype(temperatures[0].dtype)
    x = _grouped(x, b).reshape(-1, b * N, D)
    y = jnp.transpose(_grouped(y, c), (0, 3, 2, 1)).reshape(-1, D, P * c)
    x_valid, y_valid = valid
    if x_valid is not None:
        x_valid = _grouped(x_valid, b, fill=1)[:, :, :, None, None]
    if y_valid is not None:
        y_valid = jnp.swapaxes(_grouped(y_valid, c, fill=1), 1, 2)[:, None, None]
    operands = varying_alike((x, y, (x_valid, y_valid), temperatures))
    s, S = _streamed(shape, pooling, *operands)
    clips, captions = len(x) * b, len(y) * c
    if s is not None:
        s = jnp.transpose(s, (0, 2, 3, 1, 5, 4)).reshape(clips, captions, P)[:B, :C]
    if S is not None:
        S = jnp.transpose(S, (0, 2, 3, 4, 1, 5)).reshape(clips, captions)[:B, :C]
    return s, S


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Whose gradients are asked for; known when a derivative is traced."""

    x: bool = False
    y: bool = False
    temperature: bool = False
    weights_temperature: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _streamed(shape, pooling, x, y, valid, temperatures):
    """s [B/b, C/c, b, 1, P, c] and S [B/b, C/c, b, 1, 1, c] of x [B/b, b·N, D], y [C/c, D, P·c]."""
    statistics, S = _forward(shape, pooling, _Wanted(), x, y, valid, temperatures)
    return statistics and statistics[0], S


def _streamed_forward(shape, pooling, *arguments):
    """The forward pass, and what the backward pass wants to know."""
    x, y, _, temperatures = arguments
    wanted = _Wanted(*(argument.perturbed for argument in (x, y, *temperatures)))
    arguments = jax.tree.map(lambda argument: argument.value, arguments)
    statistics, S = _forward(shape, pooling, wanted, *arguments)
    return (statistics and statistics[0], S), (wanted, statistics, arguments)


def _forward(shape, pooling, wanted, x, y, valid, temperatures):
    def group_of_clips(_, clips):
        x, x_valid = clips

        def block(_, captions):
            y, y_valid = captions
            a = _product(x, y, (1, 0), pooling).reshape(shape)
            return None, pooled_block(a, (x_valid, y_valid), temperatures, pooling, wanted)

        return None, lax.scan(block, None, (y, valid[1]))[1]

    return lax.scan(group_of_clips, None, (x, valid[0]))[1]


def _streamed_backward(shape, pooling, residuals, cotangents):
    wanted, statistics, (x, y, valid, temperatures) = residuals
    y_rows = jnp.swapaxes(y, 1, 2)

    def zeros(shape):
        return varying_alike((jnp.zeros(shape, temperatures[0].dtype), x))[0]

    def instantiated(cotangent):
        symbolic = isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
        return zeros(cotangent.shape) if symbolic else cotangent

    cotangents = jax.tree.map(instantiated, cotangents)

    def group_of_clips(carry, clips):
        x, x_valid, statistics, cotangents = clips
        dy, dt = carry

        def block(carry, captions):
            dx, dy, dt = carry
            j, y, y_rows, y_valid, statistics, (ds, dS) = captions
            a = _product(x, y, (1, 0), pooling).reshape(shape)
            da, *found = block_derivatives(
                *(a, (x_valid, y_valid), temperatures, pooling, wanted, statistics, ds, dS)
            )
            da = da.reshape(shape.b * shape.N, shape.P * shape.c)
            if wanted.x:
                dx += _product(*_alike(da, y_rows), (1, 0), pooling)
            if wanted.y:
                more = _product(*_alike(x, da), (0, 0), pooling)
                more += lax.dynamic_index_in_dim(dy, j, 0, keepdims=False)
                dy = lax.dynamic_update_index_in_dim(dy, more, j, 0)
            return (dx, dy, [t + more for t, more in zip(dt, found, strict=True)]), None

        captions = (jnp.arange(len(y)), y, y_rows, valid[1], statistics, cotangents)
        start = (zeros(x.shape) if wanted.x else (), dy, dt)
        (dx, dy, dt), _ = lax.scan(block, start, captions)
        return (dy, dt), dx.astype(x.dtype) if wanted.x else ()

    start = zeros(y.shape) if wanted.y else (), [zeros(()), zeros(())]
    clips = (x, valid[0], statistics, cotangents)
    (dy, dt), dx = lax.scan(group_of_clips, start, clips)
    return dx if wanted.x else None, dy.astype(y.dtype) if wanted.y else None, None, tuple(dt)


_streamed.defvjp(_streamed_forward, _streamed_backward, symbolic_zeros=True)


def pooled_block(a, valid, temperatures, pooling, wanted):
    """What is made of a block of a, [b,N,P,c], in the forward pass.

    Args:
      valid: 1 where n counts, [b,N,1,1], and where p does, [1,1,P,c], else 0; None where all do.
      temperatures: of the pool and of the weights.

    Returns:
      s [b,1,P,c] with what its derivatives want to know, ∂s/∂temperature among that; S [b,1,1,c].
    """
    pool, weights = CLOSED_FORMS[pooling.pool], CLOSED_FORMS.get(pooling.weights)
    statistics = S = None
    if pooling.y_to_x:
        s, saved = pool.value(a, valid[0], temperatures[0], _N)
        slope = None
        if wanted.temperature:
            slope = pool.along_temperature(a, valid[0], temperatures[0], _N, s, saved)
        statistics = s, saved, slope
    if weights:
        pooled, _ = pool.value(a, valid[1], temperatures[0], _P)
        S, _ = weights.value(pooled, valid[0], temperatures[1], _N)
    return statistics, S


def block_derivatives(a, valid, temperatures, pooling, wanted, statistics, ds, dS):
    """The gradients of a block of a and of both temperatures, from those of s and of S."""
    pool, weights = CLOSED_FORMS[pooling.pool], CLOSED_FORMS.get(pooling.weights)
    da, dt, dt_weights = 0, 0, 0
    if pooling.y_to_x:
        s, saved, slope = statistics
        da = pool.along_a(a, valid[0], temperatures[0], _N, s, saved, ds)
        if wanted.temperature:
            dt = jnp.sum(slope * ds)
    if weights:
        of_pool = a, valid[1], temperatures[0], _P
        pooled, saved = pool.value(*of_pool)
        of_weights = pooled, valid[0], temperatures[1], _N
        S, saved_weights = weights.value(*of_weights)
        along_pooled = weights.along_a(*of_weights, S, saved_weights, dS)
        da += pool.along_a(*of_pool, pooled, saved, along_pooled)
        if wanted.temperature:
            dt += jnp.sum(pool.along_temperature(*of_pool, pooled, saved) * along_pooled)
        if wanted.weights_temperature:
            dt_weights = jnp.sum(weights.along_temperature(*of_weights, S, saved_weights) * dS)
    return da, dt, dt_weights


def _product(u, v, contracted, pooling):
    dtype = jnp.promote_types(jnp.promote_types(u.dtype, v.dtype), jnp.float32)
    axes = tuple((axis,) for axis in contracted), ((), ())
    return lax.dot_general(u, v, axes, precision=pooling.precision, preferred_element_type=dtype)


def _alike(u, v):
    """Operands of a product in one type.

    With bfloat16 embeddings that is theirs, for their gradients end in it anyway and its products
    are the fast ones; float16 lacks the range.
    """
    narrow = jnp.bfloat16 in (u.dtype, v.dtype)
    dtype = jnp.bfloat16 if narrow else jnp.promote_types(u.dtype, v.dtype)
    return u.astype(dtype), v.astype(dtype)


def _filled(v, mask, dtype):
    """Embeddings without masked ones, and 1 for those that count, 0 for others, or None for all.

    In place of a masked embedding stands the first valid one of its clip; a clip that has none is
    one of zeros that all count. So nothing is infinite, no set is empty, and extremes need no mask.
    """
    if mask is None:
        return v, None
    some = mask.any(1, keepdims=True)
    first = jnp.take_along_axis(v, jnp.argmax(mask, 1)[:, None, None], axis=1)
    first = lax.stop_gradient(jnp.where(some[:, :, None], first, 0))
    return jnp.where(mask[:, :, None], v, first), (mask | ~some).astype(dtype)


def _mean(v, valid, dtype):
    """The mean of those that count."""
    v = v.astype(dtype)
    if valid is None:
        return v.mean(1)
    return jnp.sum(v * valid[:, :, None], axis=1) / jnp.sum(valid, axis=1, keepdims=True)


def _grouped(v, group, fill=0):
    """[B, ...] as [B/group, group, ...], filled up."""
    padding = [(0, -len(v) % group), *[(0, 0)] * (v.ndim - 1)]
    return jnp.pad(v, padding, constant_values=fill).reshape(-1, group, *v.shape[1:])
