"""Similarities on NVIDIA's Hopper devices: product, attention and reduction in one kernel.

``blockwise`` computes in blocks that pass through device memory; here a stays in registers and is
never written to memory. Three kernels (``mosaic``) compute five products of the size of a, although
three would suffice: the forward kernel computes one; the two backward kernels, one for each side,
compute two each, because both compute a again. Every sum has a fixed order, so results are the same
in every run.

Inputs are bfloat16. Products accumulate in float32, and all later arrays are float32, except ∂s/∂a,
which is rounded to bfloat16 before it is multiplied with embeddings, as in ``blockwise``. Inputs in
float32 are refused, because the device's products of float32 are slow or inexact: use
``blockwise``.

The kernels do not pool. They compute weights over n, proportional to exp(a/τ), with logarithms to
base 2. With z = a · log2(e)/τ the forward kernel returns max z and the sums for the mean and the
variance of z under these weights. This module computes s and ∂s/∂τ from them:

========== ============================= =========================
pool       s                             ∂s/∂τ
========== ============================= =========================
softmax    Σ w a                         −Var_w(a)/τ²
logsumexp  Σ w a − τ · KL(w ‖ uniform)   −KL(w ‖ uniform)
========== ============================= =========================

The backward kernels take three numbers for each clip and phrase, L, u and v, such that
∂a = 2^h (u·h + v) with h = z − L. This is g·w for logsumexp and g·w(1 + (a − s)/τ) for softmax,
with g the gradient of s.
"""

import functools
import importlib.util
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, BFloat16, Bool, Float

from fgmm.losses.collectives import varying_alike
from fgmm.losses.pools import Pooling
from fgmm.losses.reverse_mode import reverse_mode_only

POOLS = ("softmax", "logsumexp")
LARGEST_D = 256
SUPPORTED = (
    f"pools {' and '.join(POOLS)} in direction y_to_x, bfloat16 on both sides, D at most "
    f"{LARGEST_D}, no empty axis, no block, and a CUDA device of compute capability 9"
)
_REFUSAL = f"implementation 'kernel' supports {SUPPORTED}; "

_FORWARD_MODE = (
    "implementation 'kernel' has derivatives of reverse mode alone; for forward mode (jax.jvp, "
    "jax.jacfwd) pass implementation='dense'"
)

_LN2 = math.log(2)
# Below this KL(w ‖ uniform) is replaced by its limit for nearly uniform weights, half the variance
# of a/τ: the error is less than float32's rounding.
_SMALL_DIVERGENCE = 1e-5


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
) -> tuple[Float[Array, "B C *P"], None]:
    """``blockwise.similarities`` where ``SUPPORTED``; first derivatives only.

    ``pooling.precision`` makes no difference: products of bfloat16 are exact in float32.

    Raises:
      ValueError: an argument is not supported. If the program is not compiled for CUDA, JAX raises
        a ValueError or NotImplementedError when it compiles.
    """
    reason = unsupported(x, y, pooling, block)
    if reason is None and not device_fits(unknown=True):
        reason = _other_device()
    if reason:
        raise ValueError(_REFUSAL + reason)
    if x_mask is None:
        x_mask = jnp.ones(x.shape[:2], bool)
    counts = x_mask.any(1)[:, None, None]
    if y_mask is not None:
        y = jnp.where(y_mask[:, :, None], y, 0)
        counts = counts & y_mask[None]
    x = jnp.where(x_mask[:, :, None], x, 0)
    differentiable = x, y, jnp.asarray(temperature, jnp.float32)
    x, y, temperature = reverse_mode_only(differentiable, _FORWARD_MODE)
    operands = x, y, x_mask, temperature
    s = jnp.where(counts, _pooled(pooling.pool, *varying_alike(operands)), 0)
    return jnp.sum(s * y_weights[None], axis=2) if pooling.weighs_phrases else s, None


def check_device() -> None:
    """Raises a ValueError if the kernels cannot run on the default device."""
    if not device_fits():
        raise ValueError(_REFUSAL + _other_device())


def _other_device():
    return f"the device is {jax.devices()[0].device_kind}, or absl-py is not installed"


def unsupported(
    x: Float[Array, "B N D"],
    y: Float[Array, "C P D"],
    pooling: Pooling,
    block: tuple[int, int] | None = None,
) -> str | None:
    """Why the kernels do not support these arguments on any device; None if they do."""
    if pooling.pool not in POOLS:
        return f"the pool is {pooling.pool}"
    if not pooling.y_to_x or pooling.weights is not None:
        return "the direction is " + ("symmetric" if pooling.y_to_x else "x_to_y")
    if not x.dtype == y.dtype == jnp.bfloat16:
        return f"x is {x.dtype} and y is {y.dtype}"
    if x.shape[2] > LARGEST_D:
        return f"D is {x.shape[2]}"
    if 0 in (*x.shape, *y.shape):
        return f"x has shape {x.shape} and y has shape {y.shape}"
    return None if block is None else f"block is {block}"


def device_fits(unknown: bool = False) -> bool:
    """Whether the default device is a Hopper GPU. If it is not a GPU at all, returns ``unknown``.

    A program for CUDA can be compiled on a machine without a GPU. Pallas needs absl besides JAX.
    """
    if importlib.util.find_spec("absl") is None:
        return False
    if jax.default_backend() != "gpu":
        return unknown
    capability = getattr(jax.devices()[0], "compute_capability", "")
    return str(capability).split(".")[0] == "9"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pooled(
    pool: str,
    x: BFloat16[Array, "B N D"],
    y: BFloat16[Array, "C P D"],
    x_mask: Bool[Array, "B N"],
    temperature: Float[Array, ""],
) -> Float[Array, "B C P"]:
    return _forward(pool, x, y, x_mask, temperature)[0]


def _forward(pool, x, y, x_mask, temperature):
    from fgmm.losses.kernels import mosaic

    (B, N, _), (C, P, _) = x.shape, y.shape
    steps = math.ceil(N / mosaic.STEP)
    n = steps * _up(math.ceil(N / steps), 8)
    bias = jnp.where(x_mask, 0, mosaic.NEVER)
    found = mosaic.moments(
        _padded(x, (B, n, _width(x))),
        jnp.pad(bias, ((0, 0), (0, n - N)), constant_values=mosaic.NEVER),
        _flat_y(y, mosaic.TILE),
        _scale(temperature),
        steps,
    )
    found = varying_alike((found, x))[0][:, :, : C * P]
    m, zeroth, first, second = jnp.moveaxis(found.reshape(B, 4, C, P), 1, 0)
    mean = first / zeroth  # of z, above m
    variance = jnp.maximum(second / zeroth - mean**2, 0) * _LN2**2  # of a/τ
    if pool == "softmax":
        s = temperature * (_LN2 * (m + mean))
        slope = -variance
    else:
        count = jnp.maximum(jnp.sum(x_mask, 1), 1)[:, None, None]
        slope = _LN2 * (jnp.log2(zeroth / count) - mean)
        slope = jnp.where(slope > -_SMALL_DIVERGENCE, -variance / 2, slope)
        s = temperature * (_LN2 * (m + mean) + slope)
    logarithm = jnp.log2(zeroth)
    return s, (x, y, x_mask, temperature, m + logarithm, logarithm - mean, slope)


def _backward(pool, residuals, g):
    from fgmm.losses.kernels import mosaic

    x, y, x_mask, temperature, L, above_mean, slope = residuals
    (B, N, D), (C, P, _) = x.shape, y.shape
    u, v = (_LN2 * g, g * (1 + _LN2 * above_mean)) if pool == "softmax" else (jnp.zeros_like(g), g)
    rows_of_clip = max(N, mosaic.ROWS)
    rows = _up(B * rows_of_clip, mosaic.TILE)
    bias = _padded(jnp.where(x_mask, 0, mosaic.NEVER), (B, rows_of_clip), mosaic.NEVER)
    rows_of_y = _flat_y(y, mosaic.TILE)
    curves = jnp.stack([value.reshape(B, C * P) for value in (L, u, v)], axis=1)
    operands = (
        _padded(_padded(x, (B, rows_of_clip, _width(x))).reshape(-1, _width(x)), (rows, _width(x))),
        _padded(bias.reshape(-1), (rows,), mosaic.NEVER),
        rows_of_y,
        _scale(temperature),
        _padded(curves, (mosaic.clips_of(rows, rows_of_clip), 3, len(rows_of_y))),
        rows_of_clip,
    )
    dx = mosaic.gradient_of_x(*operands)[: B * rows_of_clip]
    dx = dx.reshape(B, rows_of_clip, -1)[:, :N, :D]
    dy = mosaic.gradient_of_y(*operands)[: C * P, :D].reshape(y.shape)
    dx, dy, _ = varying_alike((dx, dy, x))
    return dx, dy, None, jnp.sum(slope * g)


_pooled.defvjp(_forward, _backward)


def _scale(temperature):
    return (1 / (_LN2 * temperature)).reshape(1)


def _flat_y(y, multiple):
    C, P, D = y.shape
    return _padded(y.reshape(C * P, D), (_up(C * P, multiple), _width(y)))


def _width(v):
    """D, rounded up to a multiple of 64 for the kernels."""
    return _up(v.shape[-1], 64)


def _up(number, multiple):
    return math.ceil(number / multiple) * multiple


def _padded(v, shape, value=0):
    widths = [(0, to - size) for to, size in zip(shape, v.shape, strict=True)]
    return jnp.pad(v, widths, constant_values=value)
