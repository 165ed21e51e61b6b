"""Closed forms of pools and their derivatives, for code that computes a in blocks.

``dense.pooled`` defines the pools and leaves derivatives to JAX. Here they are written out, so that
a backward pass needs only a few numbers of the forward pass for each pooled set of a. Each class of
``CLOSED_FORMS`` has three functions, of a block ``a`` pooled along ``axis``:

* ``value(a, valid, temperature, axis)`` -> s, and further arrays of the shape of s that the
  derivatives need;
* ``along_temperature(a, valid, temperature, axis, s, saved)`` -> ∂s/∂temperature;
* ``along_a(a, valid, temperature, axis, s, saved, cotangent)`` -> cotangent · ∂s/∂a.

``valid`` is 1 for valid entries and 0 for others and broadcasts against ``a``; None if all are
valid. Every pooled set has a valid entry, and invalid entries repeat a valid one. So an extreme
over all entries is that of the valid ones, and an invalid entry times 0 is 0, never NaN. Pooled
arrays keep ``axis`` with length 1.

On a CPU each pass over ``a`` takes about as long as the product that makes it, so the forms need
few passes.
``along_a`` computes maxima and minima again before it compares entries with them, because a product
that is computed twice may differ in its last bits.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Pooling(NamedTuple):
    """How an implementation pools a.

    Attributes:
      pool: the pool, over n or over p.
      y_to_x: whether s, pooled over n, is wanted.
      weights: the pool over n that follows the pool over p and gives S; 'given' for a sum whose
        weights are arguments; None if S is not wanted.
      precision: of the products, as in ``jax.lax.dot``.
      weighs_phrases: whether s is summed over p at once, with weights given as arguments.
    """

    pool: str
    y_to_x: bool
    weights: str | None
    precision: jax.lax.PrecisionLike
    weighs_phrases: bool = False


class _WithoutTemperature:
    @staticmethod
    def along_temperature(a, valid, temperature, axis, s, saved):
        return jnp.zeros_like(s)


class Mean(_WithoutTemperature):
    @staticmethod
    def value(a, valid, temperature, axis):
        return _sum(_counted(a, valid), axis) / _count(a, valid, axis), ()

    @staticmethod
    def along_a(a, valid, temperature, axis, s, saved, cotangent):
        share = cotangent / _count(a, valid, axis)
        return jnp.broadcast_to(_counted(share, valid), a.shape)


class Max(_WithoutTemperature):
    @staticmethod
    def value(a, valid, temperature, axis):
        return _max(a, axis), ()

    @staticmethod
    def along_a(a, valid, temperature, axis, s, saved, cotangent):
        highest = _counted((a == _max(a, axis)).astype(a.dtype), valid)
        return highest * (cotangent / _sum(highest, axis))


class Softmax:
    """w = softmax(a/τ): ∂s/∂a = w(1 + (a − s)/τ), ∂s/∂τ = −Σ w(a − s)²/τ²."""

    @staticmethod
    def value(a, valid, temperature, axis):
        highest = _max(a, axis)
        e = _exp(a - highest, valid, temperature)
        total = _sum(e, axis)
        return _sum(e * a, axis) / total, (highest, total)

    @staticmethod
    def along_temperature(a, valid, temperature, axis, s, saved):
        highest, total = saved
        e = _exp(a - highest, valid, temperature)
        return -_sum(e * (a - s) ** 2, axis) / (total * temperature**2)

    @staticmethod
    def along_a(a, valid, temperature, axis, s, saved, cotangent):
        highest, total = saved
        w = _exp(a - highest, valid, temperature) * (cotangent / total)
        return w + w * ((a - s) * (1 / temperature))


class LogSumExp:
    """With v = (a − s)/τ, so that mean e^v = 1: ∂s/∂a = e^v/count, ∂s/∂τ = −mean v·e^v."""

    @staticmethod
    def value(a, valid, temperature, axis):
        # At a large temperature all exponentials are nearly 1: their excess over 1 is summed
        # instead, with the mean as the origin. At a small one the origin prevents overflow.
        count = _count(a, valid, axis)
        mean = _sum(_counted(a, valid), axis) / count
        origin = jnp.maximum(mean, _max(a, axis) - 30 * temperature)
        above_one = _counted(jnp.expm1((a - origin) * (1 / temperature)), valid)
        return origin + temperature * jnp.log1p(_sum(above_one, axis) / count), ()

    @staticmethod
    def along_temperature(a, valid, temperature, axis, s, saved):
        v = (a - s) * (1 / temperature)
        # After e^v − 1, of mean 0, is subtracted, no entry is negative and nothing cancels.
        return -_sum(_counted(_v_exp_v_above_expm1(v), valid), axis) / _count(a, valid, axis)

    @staticmethod
    def along_a(a, valid, temperature, axis, s, saved, cotangent):
        return _exp(a - s, valid, temperature) * (cotangent / _count(a, valid, axis))


class Sparc(_WithoutTemperature):
    """With r = a − min where that is at least (max − min)/count, else 0: s = min + Σ r²/Σ r.

    ∂s/∂a = (2r − Σ r²/Σ r)/Σ r where r > 0; the minima share what these lack to the sum 1.
    """

    @staticmethod
    def value(a, valid, temperature, axis):
        lowest, r = _above_threshold(a, valid, axis)
        return lowest + _sum(r**2, axis) / _one_if_zero(_sum(r, axis)), ()

    @staticmethod
    def along_a(a, valid, temperature, axis, s, saved, cotangent):
        lowest, r = _above_threshold(a, valid, axis)
        total = _one_if_zero(_sum(r, axis))
        centre = _sum(r**2, axis) / total
        kept = r > 0
        number = _sum(kept.astype(a.dtype), axis)
        at_minimum = _counted((a == lowest).astype(a.dtype), valid)
        # The derivatives where r > 0 sum to 2 − number · centre / total.
        lacking = jnp.where(number > 0, number * centre / total - 1, 1)
        slope = jnp.where(kept, (2 * r - centre) / total, 0)
        return cotangent * slope + at_minimum * (cotangent * lacking / _sum(at_minimum, axis))


class GivenWeights(_WithoutTemperature):
    """Σ w a with weights given as arguments; they take the place of ``valid``."""

    @staticmethod
    def value(a, weights, temperature, axis):
        return _sum(a * weights, axis), ()

    @staticmethod
    def along_a(a, weights, temperature, axis, s, saved, cotangent):
        return weights * cotangent


CLOSED_FORMS = {
    "softmax": Softmax,
    "logsumexp": LogSumExp,
    "max": Max,
    "mean": Mean,
    "sparc": Sparc,
    "given": GivenWeights,
}


def _counted(value, valid):
    return value if valid is None else value * valid


def _sum(value, axis):
    return jnp.sum(value, axis, keepdims=True)


def _max(a, axis):
    return jnp.max(a, axis, keepdims=True)


def _count(a, valid, axis):
    return jnp.asarray(a.shape[axis], a.dtype) if valid is None else _sum(valid, axis)


def _exp(difference, valid, temperature):
    # One division of a scalar instead of one for each entry.
    return _counted(jnp.exp(difference * (1 / temperature)), valid)


def _v_exp_v_above_expm1(v):
    """v·e^v − (e^v − 1) = Σ_k v^k (k − 1)/k!"""
    small = jnp.abs(v) < 0.5
    near = jnp.where(small, v, 0)
    far = jnp.where(small, 1, v)
    coefficients = [(k - 1) / math.factorial(k) for k in range(14, 1, -1)]
    series = near**2 * jnp.polyval(jnp.array(coefficients, v.dtype), near)
    return jnp.where(small, series, far * jnp.exp(far) - jnp.expm1(far))


def _above_threshold(a, valid, axis):
    """The minimum, and r as in ``Sparc``."""
    lowest = jnp.min(a, axis, keepdims=True)
    spread = _max(a, axis) - lowest
    above = a - lowest
    kept = (above * _count(a, valid, axis) >= spread) & (spread >= jnp.finfo(a.dtype).tiny)
    return lowest, _counted(jnp.where(kept, above, 0), valid)


def _one_if_zero(total):
    return jnp.where(total > 0, total, 1)
