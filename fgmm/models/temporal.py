"""Time in convolutional networks over frames.

Time is kept apart from space: a spatial convolution treats time as part of the batch, and a
temporal convolution is a matrix product over shifted frames. XLA's 3-D convolutions are several
times slower than either on a CPU. A convolution over both is a spatial one over shifted frames.

An image is a clip of one frame whose temporal padding repeats the edge. Every temporal kernel then
acts as its sum over time: this is the "deflated" network for images of Alayrac et al. (arXiv
2006.16228, section 3.3). Its output is that for an endless clip of the image.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.layers import BaseEncoder, BatchNorm

PADDINGS = ("zeros", "edge")


class ConvolutionalEncoder(BaseEncoder, kw_only=True):
    """The options of convolutional networks over frames.

    Attributes:
      temporal_padding: ``"zeros"`` or ``"edge"``, for clips; images always have ``"edge"``.
      image_frames: frames to which an image is repeated ("inflation"); 1 for "deflation".
    """

    temporal_padding: str = option("zeros", choices=PADDINGS)
    image_frames: int = option(1, low=1)


def padding_of(frames: int, padding: str) -> str:
    """The temporal padding of a clip: ``"edge"`` for an image, otherwise ``padding``."""
    return "edge" if frames == 1 else padding


def repeated(
    frames: Float[Array, "B T H W 3"], length: int, dtype: str = "float32"
) -> Float[Array, "B t H W 3"]:
    """Images as static clips of ``length`` frames; clips of several frames stay as they are."""
    frames = frames.astype(dtype)
    return jnp.repeat(frames, length, axis=1) if frames.shape[1] == 1 else frames


def _padded(x: Array, low: int, high: int, padding: str) -> Array:
    widths = ((0, 0), (low, high)) + ((0, 0),) * (x.ndim - 2)
    return jnp.pad(x, widths, mode="edge" if padding == "edge" else "constant")


def shifted(
    x: Float[Array, "B T *space E"], kernel: int, stride: int = 1, padding: str = "zeros"
) -> Float[Array, "B t *space F"]:
    """The input of a temporal convolution at each step: ``kernel`` neighbouring frames,
    concatenated along the channels, F = kernel · E.

    Args:
      x: a feature map.
      kernel: how many frames; (kernel - 1) // 2 of them come before the centre.
      stride: frames from centre to centre; t = ceil(T / stride).
      padding: padding at both ends, one of ``PADDINGS``.
    """
    low = (kernel - 1) // 2
    frames = x.shape[1]
    x = _padded(x, low, kernel - 1 - low, padding)
    return jnp.concatenate([x[:, i : i + frames : stride] for i in range(kernel)], axis=-1)


def temporal_shift(
    x: Float[Array, "B T H W E"], share: int = 8, padding: str = "zeros"
) -> Float[Array, "B T H W E"]:
    """Moves 1/share of the channels a frame back in time and as many a frame on (Lin et al.,
    "TSM: Temporal Shift Module for Efficient Video Understanding", arXiv 1811.08383, offline form).
    """
    part, frames = x.shape[-1] // share, x.shape[1]
    around = _padded(x[..., : 2 * part], 1, 1, padding)
    from_future = around[:, 2 : frames + 2, ..., :part]
    from_past = around[:, :frames, ..., part:]
    return jnp.concatenate([from_future, from_past, x[..., 2 * part :]], axis=-1)


class TemporalConv(nn.Module):
    """A convolution over three frames, batch-normalised.

    Attributes:
      width: output channels.
      stride: stride in frames.
      padding: padding at both ends, one of ``PADDINGS``.
      dtype: dtype of the activations.
    """

    width: int
    stride: int = 1
    padding: str = "zeros"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t H W F"]:
        x = shifted(x, 3, self.stride, self.padding)
        x = nn.Dense(self.width, use_bias=False, dtype=self.dtype)(x)
        return BatchNorm(dtype=self.dtype)(x, mask, train)
