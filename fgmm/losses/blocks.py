"""One block of a: its pooled values and their derivatives, in closed form.

``blockwise`` computes a in blocks [b,N,P,c] of b clips and c captions, for any layout. The
functions here compute within one block. Pooled arrays keep all four axes, some of length 1.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fgmm.losses.pools import CLOSED_FORMS

# Axes of n and of p.
_N, _P = 1, 2


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class WantedGradients:
    """The arguments whose gradients are needed; known when a derivative is traced."""

    x: bool = False
    y: bool = False
    temperature: bool = False
    weights_temperature: bool = False
    x_weights: bool = False
    y_weights: bool = False


class _Direction(NamedTuple):
    """A score of a block: pooled along one axis, then by ``weights`` along the other.

    Attributes:
      along: the axis of the pool.
      other: the axis of the weights.
      weights: the closed form of the pool with these weights.
      side: 0 if the weights are of x, 1 if they are of y.
      given: whether the weights are arguments.
    """

    along: int
    other: int
    weights: type
    side: int
    given: bool


def _directions(pooling):
    """How a block computes its scores [b,1,1,c], of y_to_x and of x_to_y; None where not wanted."""
    weights = pooling.weights
    return (
        _Direction(_N, _P, CLOSED_FORMS["given"], 1, True) if pooling.weighs_phrases else None,
        _Direction(_P, _N, CLOSED_FORMS[weights], 0, weights == "given") if weights else None,
    )


def pooled_block(a, valid, shares, temperatures, pooling, wanted):
    """The forward pass of a block of a, [b,N,P,c].

    Args:
      a: similarities [b,N,P,c].
      valid: 1 for valid n, [b,N,1,1], and for valid p, [1,1,P,c] or [b,1,P,c], else 0; None if all
        are valid.
      shares: given weights of n and of p, in the same shapes; None for a side without.
      temperatures: temperature of the pool, and of the weights.
      pooling: the pools, and which results are wanted.
      wanted: the gradients that will be needed.

    Returns:
      s [b,1,P,c] with its residuals, ∂s/∂temperature among them, or None; and the scores [b,1,1,c]
      of ``_directions``.
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
      statistics: s and its residuals, from ``pooled_block``; other arguments as there.
      cotangents: of s and of the scores.
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
            d_shares[side] = _summed_as(pooled * dS, shares[side])
    return da, (dt, dt_weights), *d_shares


def _summed_as(v, shared):
    """v summed over the clips or captions that share an entry of ``shared``."""
    axes = tuple(axis for axis, size in enumerate(shared.shape) if size < v.shape[axis])
    return jnp.sum(v, axes, keepdims=True)
