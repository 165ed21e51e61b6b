"""Random changes of a clip's colours: how they are drawn, and how they are applied."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

# Luma and two chroma axes, as in YIQ. Hue turns their plane and saturation scales it, as in
# TensorFlow's adjust_hue before it used HSV.
_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32
)
_TO_RGB = np.linalg.inv(_FROM_RGB).astype(np.float32)


def drawn(
    key: PRNGKeyArray,
    clips: int,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    chance: float,
    grey: float,
) -> dict[str, Array]:
    """Draws how the colours of each of ``clips`` clips change.

    Args:
      brightness: greatest shift, as a share of the full range of a pixel.
      contrast, saturation: greatest relative change, either way.
      hue: greatest turn, either way, as a share of the circle.
      chance: of each clip to be changed at all.
      grey: chance of each clip to lose its colours.

    Returns:
      ``shift`` [B], a share of the range of a pixel; ``contrast`` [B], a factor; and ``palette``
      [B,3,3], the matrix from RGB to RGB.
    """
    keys = jax.random.split(key, 6)
    changed = jax.random.bernoulli(keys[0], chance, (clips,))

    def uniform(key, limit):
        return changed * jax.random.uniform(key, (clips,), minval=-limit, maxval=limit)

    turn = 2 * np.pi * uniform(keys[4], hue)
    colourful = ~jax.random.bernoulli(keys[5], grey, (clips,))
    strength = colourful * (1 + uniform(keys[3], saturation))
    cosine, sine = strength * jnp.cos(turn), strength * jnp.sin(turn)
    one, zero = jnp.ones(clips), jnp.zeros(clips)
    turned = jnp.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], axis=1)
    return {
        "shift": uniform(keys[1], brightness),
        "contrast": 1 + uniform(keys[2], contrast),
        "palette": _TO_RGB @ turned.reshape(clips, 3, 3) @ _FROM_RGB,
    }


def recoloured(
    video: Float[Array, "B T H W 3"],
    shift: Float[Array, " B"],
    contrast: Float[Array, " B"],
    palette: Float[Array, "B 3 3"],
) -> Float[Array, "B T H W 3"]:
    """Clips with changed colours, by one change in all frames; pixels stay within 0..255.

    Brightness comes first, then saturation and hue, then contrast, which scales what differs from
    the clip's mean. DMVR's ``color_default_augm`` (google-deepmind/dmvr, ``dmvr/processors.py``)
    has contrast before hue, frame by frame; its values are brightness 32/255, contrast and
    saturation 0.4, hue 0.2, chance 0.8.
    """

    def of_clip(value):
        return value[:, None, None, None, None]

    video = jnp.einsum("bij,bthwj->bthwi", palette, video + of_clip(255.0 * shift))
    mean = video.mean(axis=(1, 2, 3), keepdims=True)
    return jnp.clip(mean + of_clip(contrast) * (video - mean), 0.0, 255.0)
