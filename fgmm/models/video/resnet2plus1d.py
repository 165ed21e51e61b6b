"""A small residual network of factorised (2+1)D convolutions.

After Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(arXiv 1711.11248), reduced.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder, BatchNorm, ConvBlock2D, rematted
from fgmm.models.temporal import TemporalConv


class Block(nn.Module):
    """A spatial 3x3 and a temporal convolution over 3 frames, with a residual connection.

    Attributes:
      width: output channels.
      stride, temporal_stride: stride of the spatial and of the temporal convolution.
      dtype: dtype of the activations.
    """

    width: int
    stride: int = 1
    temporal_stride: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t h w F"]:
        strides = (self.stride, self.stride)
        y = ConvBlock2D(self.width, stride=strides, dtype=self.dtype)(x, mask, train)
        y = TemporalConv(self.width, self.temporal_stride, dtype=self.dtype)(y, mask, train)
        # Whether there is a projection must not depend on the number of frames.
        if x.shape[-1] != self.width or self.stride > 1 or self.temporal_stride > 1:
            x = x[:, :: self.temporal_stride, :: self.stride, :: self.stride]
            x = nn.Dense(self.width, use_bias=False, dtype=self.dtype)(x)
            x = BatchNorm(dtype=self.dtype)(x, mask, train)
        return nn.relu(x + y)


class Encoder(BaseEncoder):
    """From frames to a feature map of ``widths[-1]`` channels.

    A stem of one strided convolution, then one stage for each width; every stage after the first
    halves rows and columns. An image is a clip of one frame.

    Attributes:
      widths: channels of each stage.
      blocks: residual blocks of each stage.
      stem_stride: stride of the stem; its kernel is twice that, less one.
      temporal_strides: stride in frames of each stage's first block.
      dtype: dtype of the activations.
      remat: rules on the blocks ``Block_0``, ``Block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    widths: tuple[int, ...] = option((32, 64, 128), low=1)
    blocks: int = option(1, low=1)
    stem_stride: int = option(4, low=1)
    temporal_strides: tuple[int, ...] = option((1, 2, 1), low=1)

    def __post_init__(self):
        super().__post_init__()
        if len(self.temporal_strides) != len(self.widths):
            raise ValueError(
                f"temporal_strides={self.temporal_strides} must have one entry for each of "
                f"widths={self.widths}"
            )

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        kernel = 2 * self.stem_stride - 1
        x = ConvBlock2D(
            self.widths[0], (kernel, kernel), (self.stem_stride,) * 2, dtype=self.dtype
        )(frames, mask, train)
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                first, name = block == 0, f"Block_{stage * self.blocks + block}"
                x = rematted(Block, name, self.remat)(
                    width,
                    stride=2 if first and stage > 0 else 1,
                    temporal_stride=self.temporal_strides[stage] if first else 1,
                    dtype=self.dtype,
                    name=name,
                )(x, mask, train)
        return Tokens.of_map(x, mask)
