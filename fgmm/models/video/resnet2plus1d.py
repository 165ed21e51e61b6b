"""A small residual network of factorised (2+1)D convolutions.

After Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(arXiv 1711.11248), reduced: time is folded into the batch for the spatial convolutions, and a
temporal convolution is one matrix product over shifted frames, since XLA's 3-D convolution is
several times slower than either on a CPU.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BatchNorm, ConvBlock2D


class TemporalConv(nn.Module):
    """A convolution over three frames, zero-padded, batch-normalised.

    Attributes:
      width: output channels.
      stride: in frames.
    """

    width: int
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t H W F"]:
        frames = x.shape[1]
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        shifted = [padded[:, i : i + frames : self.stride] for i in range(3)]
        x = nn.Dense(self.width, use_bias=False)(jnp.concatenate(shifted, axis=-1))
        return BatchNorm()(x, mask, train)


class Block(nn.Module):
    """Spatial 3x3 and temporal 3 convolution with a residual connection.

    Attributes:
      width: output channels.
      stride, temporal_stride: of the spatial and the temporal convolution.
    """

    width: int
    stride: int = 1
    temporal_stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t h w F"]:
        batch, frames, *_ = x.shape
        strides = (self.stride, self.stride)
        folded = x.reshape(batch * frames, *x.shape[2:])
        frame_mask = jnp.repeat(mask, frames)
        y = ConvBlock2D(self.width, stride=strides)(folded, frame_mask, train)
        y = y.reshape(batch, frames, *y.shape[1:])
        y = TemporalConv(self.width, self.temporal_stride)(y, mask, train)
        # Whether there is a projection must not depend on how many frames a clip has.
        if x.shape[-1] != self.width or self.stride > 1 or self.temporal_stride > 1:
            x = x[:, :: self.temporal_stride, :: self.stride, :: self.stride]
            x = BatchNorm()(nn.Dense(self.width, use_bias=False)(x), mask, train)
        return nn.relu(x + y)


class Encoder(nn.Module):
    """Frames to a feature map of ``widths[-1]`` channels.

    A stem of one strided convolution, then one stage a width; every stage after the first halves
    rows and columns. An image is a clip of one frame.

    Attributes:
      widths: channels of each stage.
      blocks: residual blocks of each stage.
      stem_stride: pixels between the stem's outputs; its kernel is twice as wide, less one.
      temporal_strides: frame stride of each stage's first block; 1 or 2.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    stem_stride: int = 4
    temporal_strides: tuple[int, ...] = (1, 2, 1)

    def __post_init__(self):
        if len(self.temporal_strides) != len(self.widths):
            raise ValueError(
                f"temporal_strides={self.temporal_strides} must have one entry for each of "
                f"widths={self.widths}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        batch, length, *_ = frames.shape
        folded = frames.reshape(batch * length, *frames.shape[2:])
        kernel = 2 * self.stem_stride - 1
        x = ConvBlock2D(self.widths[0], (kernel, kernel), (self.stem_stride,) * 2)(
            folded, jnp.repeat(mask, length), train
        )
        x = x.reshape(batch, length, *x.shape[1:])
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                first = block == 0
                x = Block(
                    width,
                    stride=2 if first and stage > 0 else 1,
                    temporal_stride=self.temporal_strides[stage] if first else 1,
                )(x, mask, train)
        grid = x.shape[1:4]
        local = x.reshape(batch, -1, x.shape[-1])
        return Tokens(local, jnp.broadcast_to(mask[:, None], local.shape[:2]), grid)
