"""Similarities without the array a in memory: each pass computes a in blocks.

The clips of each side are cut into groups. A block compares a group of b clips with one of c
captions: one product [b·N, D] × [D, P·c], pooled at once. The block stays in cache, and only pooled
results are kept. The backward pass computes the product again and takes derivatives from their
closed forms (``blocks``). That costs four products; with a in memory there would be three. In
another layout each clip has c captions of its own, from its candidates; see ``layouts``.

Within a block a is [b, N, P, c]: with captions as the last axis, both n and p are pooled across
vector registers, not along them. Pooled arrays keep all four axes, some of length 1.

N and P are never cut, so that everything a score depends on is in one block. Groups are padded with
clips of zeros, which have similarity zero and add zero to every gradient.

Only reverse mode is supported; forward mode raises a TypeError. A second derivative is right but
keeps every block in memory.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from fgmm.losses.blocks import WantedGradients, block_derivatives, pooled_block
from fgmm.losses.collectives import varying_alike
from fgmm.losses.layouts import AllPairs, BlockShape, Candidates, ValidPhrases, grouped
from fgmm.losses.pools import Pooling
from fgmm.losses.reverse_mode import reverse_mode_only

# Bytes of a block of a. On a CPU a block and its results share the cache; an accelerator needs
# products large enough to use all of its units.
_BLOCK_BYTES = {"cpu": 4 << 20}
_BLOCK_BYTES_OF_ACCELERATORS = 128 << 20
# The fewest captions in a block, since they are its vectorised axis.
_VECTOR = 16
# The most phrases in a group of ``ValidPhrases``, and about how many groups there are if all of
# them are smaller than that.
_PHRASES, _PHRASE_GROUPS = 256, 12
# The most local embeddings in a block of ``ValidPhrases``.
_ROWS = 4096

_FORWARD_MODE = (
    "implementation 'blockwise', the default above 256 KiB of local similarities, has derivatives "
    "of reverse mode alone; for forward mode (jax.jvp, jax.jacfwd) pass implementation='dense'"
)


def similarities(
    x: Float[Array, "B N D"],
    y: Float[Array, "C P D"],
    x_mask: Bool[Array, "B N"] | None,
    y_mask: Bool[Array, "C P"] | None,
    temperature: Float[Array, ""] | None,
    weights_temperature: Float[Array, ""] | None,
    x_weights: Float[Array, "B N"] | None = None,
    y_weights: Float[Array, "C P"] | None = None,
    candidates: Int[Array, "B K"] | None = None,
    *,
    pooling: Pooling,
    block: tuple[int, int] | None = None,
) -> tuple[Float[Array, "B K *P"] | None, Float[Array, "B K"] | None]:
    """Computes both directions at once: s, pooled over n, and S, pooled over p and then over n.

    Args:
      x, y, x_mask, y_mask: as in ``similarity.pooled_similarity``.
      temperature: of the pool; None if it has none.
      weights_temperature: of the pool over n that follows the pool over p; None if it has none.
      x_weights: weights of the sum over n that follows the pool over p, if ``pooling.weights`` is
        'given'.
      y_weights: weights of the sum over p that follows the pool over n, if
        ``pooling.weighs_phrases``. All weights of masked entries must be 0.
      candidates: the captions that each clip is compared with, none of them twice; a number of C or
        more is an empty slot. None for all captions.
      pooling: the pools, and which results are wanted.
      block: clips and captions in a block; None for a choice by shape.

    Returns:
      s [B,C,P], or its weighted sum [B,C], and S [B,C], each None unless wanted, in float32 or
      wider. They are 0 where nothing is valid. With candidates, K takes the place of C.
    """
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    temperatures = tuple(
        jnp.asarray(1 if t is None else t, dtype) for t in (temperature, weights_temperature)
    )
    x, y = _side(x, x_mask, x_weights, dtype), _side(y, y_mask, y_weights, dtype)
    s = S = None
    if candidates is None:
        s, S, pooling = _of_means(x, y, temperatures[1], pooling, block)
    if y_mask is not None and _phrases_stand_alone(pooling, candidates):
        s = _of_valid_phrases(x, y, y_mask, temperatures, pooling, block)
    elif pooling.y_to_x or pooling.weights is not None:
        shape = _block_shape(x, y, candidates, block, dtype)
        layout = AllPairs if candidates is None else Candidates
        streamed = _in_blocks(layout, shape, pooling, x, y, temperatures, candidates)
        s, S = (other if one is None else one for one, other in zip(streamed, (s, S), strict=True))
    if s is not None and s.ndim == 3 and y_mask is not None:
        if candidates is not None:
            y_mask = y_mask.at[candidates].get(mode="fill", fill_value=False)
        s = jnp.where(y_mask, s, 0)
    return s, S


class _Side(NamedTuple):
    """One side without masked entries.

    Attributes:
      v: embeddings [B,N,D], the masked ones replaced by valid ones.
      valid: 1 for valid entries, 0 for others [B,N]; None if all are valid.
      weights: given weights of the entries [B,N]; None if there are none.
    """

    v: Float[Array, "B N D"]
    valid: Float[Array, "B N"] | None
    weights: Float[Array, "B N"] | None


def _of_means(x, y, weights_temperature, pooling, block):
    """s and S of all pairs where no blocks are needed, and the pooling that is left to do.

    The mean of a over n is the similarity of the mean of x over n. A pool over a single entry is
    its mean.
    """
    s = S = None
    N, P, dtype = x.v.shape[1], y.v.shape[1], weights_temperature.dtype
    linear = pooling.pool == "mean"
    einsum = functools.partial(jnp.einsum, precision=pooling.precision)
    if pooling.y_to_x and (linear or N == 1):
        mean = _mean(x.v, x.valid, dtype)
        if pooling.weighs_phrases:
            s = einsum("bd,cd->bc", mean, _weighted_sum(y.v, y.weights, dtype))
        else:
            s = einsum("bd,cpd->bcp", mean, y.v.astype(dtype))
        pooling = pooling._replace(y_to_x=False, weighs_phrases=False)
    if pooling.weights is not None and (linear or P == 1):
        mean = _mean(y.v, y.valid, dtype)
        if pooling.weights == "mean":
            S = einsum("bd,cd->bc", _mean(x.v, x.valid, dtype), mean)
        elif pooling.weights == "given":
            S = einsum("bd,cd->bc", _weighted_sum(x.v, x.weights, dtype), mean)
        else:
            over_n = Pooling(pooling.weights, True, None, pooling.precision)
            x_mask = None if x.valid is None else x.valid > 0
            of_mean = x.v, mean[:, None], x_mask, None, weights_temperature, None
            S = similarities(*of_mean, pooling=over_n, block=block)[0][:, :, 0]
        pooling = pooling._replace(weights=None)
    return s, S, pooling


def _phrases_stand_alone(pooling, candidates):
    """Whether phrases can be computed in any order, and doing so is faster."""
    by_phrase = pooling.y_to_x and not pooling.weighs_phrases and pooling.weights is None
    return by_phrase and candidates is None and jax.default_backend() == "cpu"


def _of_valid_phrases(x, y, mask, temperatures, pooling, block):
    """s, computed with valid phrases first so that groups of masked phrases are skipped. Masked
    phrases get 0.
    """
    (B, N, _), (C, P, D), mask = x.v.shape, y.v.shape, mask.reshape(-1)
    order = jnp.argsort(~mask, stable=True)
    reordered = functools.partial(jnp.take, mode="clip", unique_indices=True)
    phrases = _Side(reordered(y.v.reshape(C * P, 1, D), order, axis=0), None, None)
    if block is None:
        b, c = choose_block_of_phrases(B, C * P, N, temperatures[0].dtype.itemsize)
    else:
        b, c = block[0], block[1] * P
    shape = BlockShape(min(b, B), N, 1, min(c, C * P))
    s, _ = _in_blocks(ValidPhrases, shape, pooling, x, phrases, temperatures, jnp.sum(mask))
    return reordered(s[:, :, 0], jnp.argsort(order), axis=1).reshape(B, C, P)


def _block_shape(x, y, candidates, block, dtype):
    (B, N, _), (captions, P, _) = x.v.shape, y.v.shape
    choose = choose_block
    if candidates is not None:
        choose, captions = choose_block_of_candidates, candidates.shape[1]
    b, c = choose(B, captions, N, P, dtype.itemsize) if block is None else block
    return BlockShape(min(b, B), N, P, min(c, captions))


def choose_block(B: int, C: int, N: int, P: int, itemsize: int = 4) -> tuple[int, int]:
    """The size (b, c) of a block: about as many rows b·N as columns P·c, within the budget."""
    budget = _block_bytes() // itemsize
    c = min(C, max(_VECTOR, round(math.sqrt(budget) / P)))
    b = max(1, min(B, budget // (N * P * c)))
    # Threads share a power of two evenly, and batches are powers of two.
    b = 1 << b.bit_length() - 1
    c = max(c, min(C, budget // (N * P * b)))
    return _evened(B, b), _evened(C, c)


def choose_block_of_candidates(
    B: int, K: int, N: int, P: int, itemsize: int = 4
) -> tuple[int, int]:
    """The size (b, c) of a block of candidates, where each clip has a product of its own: as many
    of the K candidates as fit.
    """
    budget = _block_bytes() // itemsize
    c = min(K, max(_VECTOR, budget // (N * P)))
    b = max(1, min(B, budget // (N * P * c)))
    return _evened(B, 1 << b.bit_length() - 1), _evened(K, c)


def choose_block_of_phrases(B: int, phrases: int, N: int, itemsize: int = 4) -> tuple[int, int]:
    """The size (b, c) of a block of ``ValidPhrases``: small groups of phrases, so that most padding
    is skipped, and as many clips as fit beside their gradients.
    """
    c = min(phrases, _PHRASES, _VECTOR * math.ceil(phrases / (_PHRASE_GROUPS * _VECTOR)))
    b = max(1, min(B, _block_bytes() // itemsize // (N * c), _ROWS // N))
    return _evened(B, 1 << b.bit_length() - 1), c


def _block_bytes():
    return _BLOCK_BYTES.get(jax.default_backend(), _BLOCK_BYTES_OF_ACCELERATORS)


def _evened(clips, group):
    """The group size with the least padding that gives the same number of groups."""
    return math.ceil(clips / math.ceil(clips / group))


def _in_blocks(layout, shape, pooling, x, y, temperatures, chosen):
    """Cuts both sides into groups for ``_streamed``, and joins the groups of its results.

    Args:
      chosen: the candidates for ``Candidates``, the number of valid phrases for ``ValidPhrases``.
    """
    b, N, P, c = shape
    B, D = len(x.v), x.v.shape[2]
    C = chosen.shape[1] if layout is Candidates else len(y.v)

    def of_captions(v, fill=0):
        return v if v is None else layout.of_phrases(v, c, fill)

    dtype = x.v.dtype if x.v.dtype == y.v.dtype else temperatures[0].dtype
    places = layout.places(chosen, shape, B, len(y.v))
    valid = _of_clips(x.valid, b, fill=1), of_captions(y.valid, fill=1)
    operands = (
        grouped(x.v.astype(dtype), b).reshape(-1, b * N, D),
        layout.of_embeddings(y.v.astype(dtype), c),
        temperatures,
        (
            _of_clips(x.weights, b) if pooling.weights == "given" else None,
            of_captions(y.weights) if pooling.weighs_phrases else None,
        ),
    )
    x, y, temperatures, weights = reverse_mode_only(operands, _FORWARD_MODE)
    operands = varying_alike((x, y, valid, temperatures, weights, places))
    s, *scores = _streamed(shape, pooling, layout, *operands)
    clips, captions = len(x) * b, places.shape[1] * c
    if s is not None:
        s = jnp.transpose(s, (0, 2, 3, 1, 5, 4)).reshape(clips, captions, P)[:B, :C]
    weighted, S = (
        v if v is None else jnp.transpose(v, (0, 2, 3, 4, 1, 5)).reshape(clips, captions)[:B, :C]
        for v in scores
    )
    return s if weighted is None else weighted, S


def _of_clips(v, b, fill=0):
    """[B,N] as [B/b,b,N,1,1], to be broadcast against blocks; None stays None."""
    return v if v is None else grouped(v, b, fill)[:, :, :, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _streamed(shape, pooling, layout, x, y, valid, temperatures, weights, places):
    """s [B/b, C/c, b, 1, P, c] or its weighted sum over p, and S, both [B/b, C/c, b, 1, 1, c].

    x is [B/b, b·N, D]. Captions are arranged as ``layout`` needs them; ``places`` [B/b, C/c, ...]
    says where those of each block are.
    """
    arguments = x, y, valid, temperatures, weights, places
    statistics, scores = _forward(shape, pooling, layout, WantedGradients(), *arguments)
    return statistics and statistics[0], *scores


def _streamed_forward(shape, pooling, layout, *arguments):
    """The forward pass, with the residuals of the backward pass."""
    x, y, _, temperatures, weights, _ = arguments
    wanted = WantedGradients(
        *(v is not None and v.perturbed for v in (x, y, *temperatures, *weights))
    )
    arguments = jax.tree.map(lambda argument: argument.value, arguments)
    statistics, scores = _forward(shape, pooling, layout, wanted, *arguments)
    return (statistics and statistics[0], *scores), (wanted, statistics, arguments)


def _forward(shape, pooling, layout, wanted, x, y, valid, temperatures, weights, places):
    def group_of_clips(_, clips):
        x, x_valid, x_weights, places = clips

        def block(_, place):
            def pooled():
                a = layout.local_similarities(
                    x, layout.embeddings_at(place, y), shape, pooling.precision
                )
                y_valid, y_weights = _phrases_at(layout, place, (valid[1], weights[1]))
                masks, shares = (x_valid, y_valid), (x_weights, y_weights)
                return pooled_block(a, masks, shares, temperatures, pooling, wanted)

            return None, layout.computed(place, y, pooled)

        return None, lax.scan(block, None, places)[1]

    return lax.scan(group_of_clips, None, (x, valid[0], weights[0], places))[1]


def _phrases_at(layout, place, arrays):
    return jax.tree.map(functools.partial(layout.phrases_at, place), arrays)


def _streamed_backward(shape, pooling, layout, residuals, cotangents):
    wanted, statistics, arguments = residuals
    x, y, valid, temperatures, weights, places = arguments
    y_rows = layout.rows(y)

    def zeros(shape):
        return varying_alike((jnp.zeros(shape, temperatures[0].dtype), x))[0]

    def instantiated(cotangent):
        symbolic = isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
        return zeros(cotangent.shape) if symbolic else cotangent

    cotangents = jax.tree.map(instantiated, cotangents)

    def group_of_clips(carry, clips):
        x, x_valid, x_weights, places, statistics, cotangents = clips
        of_captions, dt = carry

        def block(carry, captions):
            of_clips, (of_y, of_y_weights), dt = carry
            place, statistics, cotangents = captions
            precision = pooling.precision

            def gradients():
                a = layout.local_similarities(x, layout.embeddings_at(place, y), shape, precision)
                y_valid, y_weights = _phrases_at(layout, place, (valid[1], weights[1]))
                masks, shares = (x_valid, y_valid), (x_weights, y_weights)
                da, found, dx_weights, dy_weights = block_derivatives(
                    *(a, masks, shares, temperatures, pooling, wanted, statistics, cotangents)
                )
                dx = dy = None
                if wanted.x:
                    dx = layout.gradient_of_x(da, layout.embeddings_at(place, y_rows), precision)
                if wanted.y:
                    dy = layout.gradient_of_y(x, da, precision)
                return (dx, dx_weights), dy, dy_weights, found

            found_of_clips, dy, dy_weights, found = layout.computed(place, y, gradients)
            if wanted.y:
                of_y = layout.add_embeddings(of_y, dy, place)
            if wanted.y_weights:
                of_y_weights = layout.add_phrases(of_y_weights, dy_weights, place)
            of_clips = jax.tree.map(jnp.add, of_clips, found_of_clips)
            return (of_clips, (of_y, of_y_weights), jax.tree.map(jnp.add, dt, found)), None

        of_clips = (
            zeros(x.shape) if wanted.x else None,
            zeros(x_weights.shape) if wanted.x_weights else None,
        )
        captions = places, statistics, cotangents
        (of_clips, *carry), _ = lax.scan(block, (of_clips, of_captions, dt), captions)
        dx, dx_weights = of_clips
        return tuple(carry), (dx.astype(x.dtype) if wanted.x else None, dx_weights)

    of_captions = (
        zeros(y.shape) if wanted.y else None,
        zeros(weights[1].shape) if wanted.y_weights else None,
    )
    clips = (x, valid[0], weights[0], places, statistics, cotangents)
    (of_captions, dt), (dx, dx_weights) = lax.scan(
        group_of_clips, (of_captions, (zeros(()), zeros(()))), clips
    )
    dy, dy_weights = of_captions
    dy = dy.astype(y.dtype) if wanted.y else None
    return dx, dy, None, dt, (dx_weights, dy_weights), None


_streamed.defvjp(_streamed_forward, _streamed_backward, symbolic_zeros=True)


def _side(v, mask, weights, dtype):
    """The side of embeddings with a mask.

    A masked embedding is replaced by the first valid one of its clip. If a clip has no valid
    embedding, all of its embeddings become zeros and count as valid. So nothing is infinite, no set
    is empty, and extremes need no mask.
    """
    weights = weights if weights is None else weights.astype(dtype)
    if mask is None:
        return _Side(v, None, weights)
    some = mask.any(1, keepdims=True)
    first = jnp.take_along_axis(v, jnp.argmax(mask, 1)[:, None, None], axis=1)
    first = lax.stop_gradient(jnp.where(some[:, :, None], first, 0))
    filled = jnp.where(mask[:, :, None], v, first)
    return _Side(filled, (mask | ~some).astype(dtype), weights)


def _mean(v, valid, dtype):
    """The mean of the valid embeddings."""
    v = v.astype(dtype)
    if valid is None:
        return v.mean(1)
    return jnp.sum(v * valid[:, :, None], axis=1) / jnp.sum(valid, axis=1, keepdims=True)


def _weighted_sum(v, weights, dtype):
    return jnp.sum(v.astype(dtype) * weights[:, :, None], axis=1)
