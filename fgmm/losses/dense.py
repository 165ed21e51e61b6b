"""The definition of pools, on similarities held in memory, with JAX's own derivatives.

``pooled`` and ``pool_weights`` take any array and its mask, and have derivatives of any order and
mode. ``similarities`` makes a [B,C,N,P] and pools it; ``blockwise`` does the same in blocks.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from fgmm.losses.collectives import accumulation_dtype
from fgmm.losses.options import check_choice
from fgmm.losses.pools import Pooling

POOLS = ("softmax", "logsumexp", "max", "mean", "sparc")
POOLS_WITH_TEMPERATURE = ("softmax", "logsumexp")


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
    """As ``blockwise.similarities``, but with a in memory, and with the captions gathered for all
    candidates.

    Raises:
      ValueError: ``block`` is given.
    """
    if block is not None:
        raise ValueError(f"block is of blockwise alone; got {block} for dense")
    if candidates is None:
        a, mask = local_similarities(x, y, x_mask, y_mask, pooling.precision)
        y_weights = y_weights if y_weights is None else y_weights[None]
    else:
        y_mask = jnp.ones(y.shape[:2], bool) if y_mask is None else y_mask
        # Gradients of a caption from several clips are summed in this dtype.
        y = y.astype(accumulation_dtype(y.dtype))
        y, y_mask, y_weights = (
            v if v is None else v.at[candidates].get(mode="fill", fill_value=0)
            for v in (y, y_mask, y_weights)
        )
        a, mask = local_similarities(x, y, x_mask, y_mask, pooling.precision)
    options = {"pool": pooling.pool, "temperature": temperature}
    s = pooled(a, mask, axis=2, **options) if pooling.y_to_x else None
    if pooling.weighs_phrases:
        s = jnp.sum(s * y_weights, axis=2)
    if pooling.weights is None:
        return s, None
    options_of_weights = {"pool": pooling.weights, "temperature": weights_temperature}
    over_p = pooled(a, mask, axis=3, **options)
    if pooling.weights == "given":
        return s, jnp.sum(over_p * x_weights[:, None], axis=2)
    return s, pooled(over_p, mask.any(3), axis=2, **options_of_weights)


def pooled(
    a: Float[Array, "*shape"],
    mask: Bool[Array, "*shape"],
    *,
    pool: str,
    temperature: ScalarLike | None = None,
    axis: int,
) -> Float[Array, "..."]:
    """Pools the valid entries of ``a`` along ``axis``; 0 where there are none.

    Raises:
      ValueError: the pool is unknown, needs a temperature that is missing, or has no temperature
        and is given one.
    """
    check_pool(pool, temperature)
    if pool == "logsumexp":
        temperature = jnp.asarray(temperature, a.dtype)
        return _log_mean_exp(axis, a, mask, temperature).squeeze(axis)
    if pool == "max":
        return _extremum(jnp.max, a, mask, axis).squeeze(axis)
    # Weights are computed from a itself, not from differences: XLA may round a difference one way
    # where the minimum is computed and another way where entries are compared with it.
    weights = pool_weights(a, mask, pool=pool, temperature=temperature, axis=axis)
    # The result does not depend on the origin of a, so neither does its gradient. Relative to the
    # mean, derivatives keep their digits when all of a is nearly the same.
    origin = jax.lax.stop_gradient(_mean(a, mask, axis))
    a = jnp.where(mask, a - origin, 0)
    return (origin + jnp.sum(weights * a, axis, keepdims=True)).squeeze(axis)


def pool_weights(
    a: Float[Array, "*shape"],
    mask: Bool[Array, "*shape"],
    *,
    pool: str,
    temperature: ScalarLike | None = None,
    axis: int,
) -> Float[Array, "*shape"]:
    """Weights of the valid entries of ``a`` along ``axis``; all 0 where there are none.

    Raises:
      ValueError: as in ``pooled``.
    """
    check_pool(pool, temperature)
    valid = mask.astype(a.dtype)
    if pool == "mean":
        return _divided_by_sum(valid, axis)
    if pool == "sparc":
        return _sparc_weights(a, mask, axis)
    maximum = jax.lax.stop_gradient(_extremum(jnp.max, a, mask, axis))
    if pool == "max":
        return _divided_by_sum(jnp.where(a == maximum, valid, 0), axis)
    logits = jnp.where(mask, a - maximum, 0) / jnp.asarray(temperature, a.dtype)
    return _divided_by_sum(valid * jnp.exp(logits), axis)


def check_pool(pool: str, temperature: ScalarLike | None, name: str = "temperature") -> None:
    """Raises a ValueError if the pool is unknown, needs a temperature that is None, or has no
    temperature and is given one.

    Args:
      name: name of the temperature, for errors.
    """
    check_choice("pool", pool, POOLS)
    if pool in POOLS_WITH_TEMPERATURE and temperature is None:
        raise ValueError(f"pool {pool!r} needs a {name} above 0; got None")
    if pool not in POOLS_WITH_TEMPERATURE and temperature is not None:
        raise ValueError(f"pool {pool!r} has no temperature; leave {name} out")


def local_similarities(x, y, x_mask, y_mask, precision):
    """a [B,C,N,P] in float32 or wider, and the mask of entries that are valid on both sides.

    y is [C,P,D], or [B,C,P,D] if each clip has captions of its own.
    """
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    x_mask, y_mask = (
        jnp.ones(v.shape[:-1], bool) if mask is None else mask
        for v, mask in ((x, x_mask), (y, y_mask))
    )
    # A NaN behind a mask would reach the other side's gradient as 0 · NaN.
    x, y = (jnp.where(mask[..., None], v, 0) for v, mask in ((x, x_mask), (y, y_mask)))
    axes = "bnd,cpd->bcnp" if y.ndim == 3 else "bnd,bcpd->bcnp"
    a = jnp.einsum(axes, x, y, precision=precision, preferred_element_type=dtype)
    y_mask = y_mask[None, :, None] if y.ndim == 3 else y_mask[:, :, None]
    return a, jnp.broadcast_to(x_mask[:, None, :, None] & y_mask, a.shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_mean_exp(axis, a, mask, temperature):
    """temperature · log mean exp(a / temperature) of valid entries, axis kept."""
    origin, _, mean_above_one = _exponentials(axis, a, mask, temperature)
    return origin + temperature * jnp.log1p(mean_above_one)


@_log_mean_exp.defjvp
def _log_mean_exp_derivative(axis, primals, tangents):
    """∂s/∂a = w = softmax(a / temperature); ∂s/∂temperature = −Σ w log(w · count).

    The latter is minus the divergence of w from uniform weights. It equals
    (s − Σ w a) / temperature, but at a large temperature this difference is only rounding error.
    """
    a, mask, temperature = primals
    a_tangent, _, temperature_tangent = tangents
    origin, above_one, mean_above_one = _exponentials(axis, a, mask, temperature)
    s = origin + temperature * jnp.log1p(mean_above_one)
    # w · count − 1, small where weights are nearly uniform.
    excess = jnp.where(mask, (above_one - mean_above_one) / (1 + mean_above_one), 0)
    along_a = _mean((1 + excess) * a_tangent, mask, axis)
    divergence = _mean(_x_log_x_above_tangent(excess), mask, axis)
    return s, along_a - divergence * temperature_tangent


def _exponentials(axis, a, mask, temperature):
    """An origin, and exp((a − origin) / temperature) − 1 with its mean.

    At a large temperature all exponentials are nearly 1, so their excess over 1 is computed, with
    the mean as the origin. At a small one the origin prevents overflow. In both cases the mean of
    exp is at least 1, and log1p of the excess is exact.
    """
    maximum = _extremum(jnp.max, a, mask, axis)
    origin = jnp.maximum(_mean(a, mask, axis), maximum - 30 * temperature)
    origin = jax.lax.stop_gradient(origin)
    above_one = jnp.expm1(jnp.where(mask, a - origin, 0) / temperature)
    return origin, above_one, _mean(above_one, mask, axis)


def _x_log_x_above_tangent(r):
    """(1 + r) log(1 + r) − r: by how much x log x at x = 1 + r lies above its tangent at x = 1."""
    small = jnp.abs(r) < 0.05
    coefficients = [(-1) ** k / (k * (k - 1)) for k in range(9, 1, -1)]
    series = r**2 * jnp.polyval(jnp.array(coefficients, r.dtype), jnp.where(small, r, 0))
    x = jnp.where(r > -1, 1 + r, 1)
    return jnp.where(small, series, jnp.where(r > -1, x * jnp.log(x), 0) - r)


def _sparc_weights(a, mask, axis):
    minimum = _extremum(jnp.min, a, mask, axis)
    above = jnp.where(mask, a - minimum, 0)
    # Weights do not depend on the scale, so the range needs no gradient.
    spread = jax.lax.stop_gradient(jnp.max(above, axis, keepdims=True))
    count = jnp.sum(mask, axis, keepdims=True)
    flat = spread < jnp.finfo(a.dtype).tiny
    normalised = above / jnp.where(flat, 1, spread)
    kept = jnp.where(above * count >= spread, normalised, 0)
    return _divided_by_sum(jnp.where(flat, mask.astype(a.dtype), kept), axis)


def _extremum(reduce, a, mask, axis):
    """jnp.max or jnp.min over valid entries, axis kept; 0 where there are none."""
    worst = -jnp.inf if reduce is jnp.max else jnp.inf
    value = reduce(jnp.where(mask, a, worst), axis, keepdims=True)
    return jnp.where(mask.any(axis, keepdims=True), value, 0)


def _mean(a, mask, axis):
    """The mean of valid entries, axis kept; 0 where there are none."""
    total = jnp.sum(jnp.where(mask, a, 0), axis, keepdims=True)
    return total / jnp.maximum(jnp.sum(mask, axis, keepdims=True), 1)


def _divided_by_sum(weights, axis):
    total = jnp.sum(weights, axis, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)
