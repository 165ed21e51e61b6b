"""Learned temperatures: the conventions of CLIP and SigLIP.

These losses divide scores by a temperature. Published code multiplies by its inverse, a scale, and
learns the logarithm of the scale.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.losses.reverse_mode import reverse_mode_only

# Radford et al. 2021, arXiv 2103.00020, section 2.5.
CLIP_INITIAL_TEMPERATURE = 0.07
CLIP_INITIAL_LOGIT_SCALE = math.log(1 / CLIP_INITIAL_TEMPERATURE)
CLIP_MAXIMUM_SCALE = 100.0

# Zhai et al. 2023, arXiv 2303.15343, section 3.2: t' = log 10, b = -10.
SIGLIP_INITIAL_TEMPERATURE = 0.1
SIGLIP_INITIAL_BIAS = -10.0

_FORWARD_MODE = (
    "a temperature clipped to its bounds has derivatives of reverse mode alone; for forward mode "
    "(jax.jvp, jax.jacfwd) pass jnp.exp(-log_scale)"
)


def temperature_from_logit_scale(
    log_scale: float | Float[Array, ""], maximum: float = CLIP_MAXIMUM_SCALE
) -> Float[Array, ""]:
    """The temperature of CLIP's ``logit_scale``: 1 / min(exp(log_scale), maximum).

    CLIP clips the parameter after every update. Here the value is clipped instead, by ``clipped``,
    whose gradient can bring it back.
    """
    return jnp.exp(-clipped(jnp.asarray(log_scale), -math.inf, math.log(maximum)))


def clipped(value: Float[Array, ""], low: float, high: float) -> Float[Array, ""]:
    """``value`` clipped to [low, high], with a gradient that can bring it back.

    The gradient of a plain clip is 0 outside its bounds, so a parameter that stepped outside stays
    there. Here a gradient is stopped only if descent would lead further outside. That depends on
    the sign of the gradient, so a forward-mode derivative raises a TypeError.
    """
    return _clipped(reverse_mode_only(value, _FORWARD_MODE), low, high)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _clipped(value, low, high):
    return jnp.clip(value, low, high)


def _clipped_forward(value, low, high):
    return jnp.clip(value, low, high), value


def _clipped_backward(low, high, value, gradient):
    outward = ((value <= low) & (gradient > 0)) | ((value >= high) & (gradient < 0))
    return (jnp.where(outward, 0, gradient),)


_clipped.defvjp(_clipped_forward, _clipped_backward)
