"""SpecAugment (Park et al. 2019, arXiv 1904.08779): hides stretches of time and of frequency."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def drawn(key: PRNGKeyArray, clips: int, masks: int, greatest: float) -> Float[Array, "B M 2"]:
    """Draws where each of M masks starts and how long it is, in shares of the axis.

    Args:
      greatest: the greatest length of a mask, as a share of the axis. Lengths are uniform from 0.

    Returns:
      (start, length) of each mask.
    """
    length_key, start_key = jax.random.split(key)
    length = jax.random.uniform(length_key, (clips, masks), maxval=greatest)
    start = jax.random.uniform(start_key, (clips, masks)) * (1 - length)
    return jnp.stack([start, length], axis=-1)


def masked(
    log_mel: Float[Array, "B T F"], spans: Float[Array, "B M 2"], axis: int
) -> Float[Array, "B T F"]:
    """A normalised spectrogram, set to zero (the mean of all sound) in every span along ``axis``.

    A position is hidden if its centre lies in a span. ``axis`` is 1 for time, 2 for frequency.
    """
    size = log_mel.shape[axis]
    centre = (jnp.arange(size)[None, None] + 0.5) / size
    start, length = spans[:, :, 0, None], spans[:, :, 1, None]
    hidden = ((centre >= start) & (centre < start + length)).any(axis=1)
    return jnp.where(jnp.expand_dims(hidden, 3 - axis), 0.0, log_mel)
