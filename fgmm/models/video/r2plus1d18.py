"""R(2+1)D-18: every 3-D convolution split into a spatial and a temporal one.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018 (arXiv
1711.11248), in the form of torchvision's ``r2plus1d_18``.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BatchNorm, rematted
from fgmm.models.temporal import ConvolutionalEncoder, padding_of, repeated, shifted


def middle_width(before: int, after: int) -> int:
    """Channels between the two parts of a split convolution, so that both together have no more
    parameters than the 3x3x3 convolution that they replace (arXiv 1711.11248, section 3.5).
    """
    return 27 * before * after // (9 * before + 3 * after)


class SplitConv(nn.Module):
    """A spatial convolution, a normalisation, ReLU, and a temporal convolution over three frames.

    Attributes:
      middle: channels between the two convolutions.
      width: output channels.
      kernel: rows and columns of the spatial convolution.
      strides: strides of time and of space.
      padding: padding of time, ``"zeros"`` or ``"edge"``.
      dtype: dtype of the activations.
    """

    middle: int
    width: int
    padding: str
    dtype: str
    kernel: int = 3
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t h w F"]:
        around = [(self.kernel // 2, self.kernel // 2)] * 2
        x = nn.Conv(
            self.middle,
            (self.kernel, self.kernel),
            (self.strides[1], self.strides[1]),
            around,
            use_bias=False,
            dtype=self.dtype,
            name="spatial",
        )(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="spatial_bn")(x, mask, train))
        x = shifted(x, 3, self.strides[0], self.padding)
        return nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="temporal")(x)


class Block(nn.Module):
    """Two split convolutions beside a shortcut.

    Attributes:
      width: output channels.
      stride: stride of both time and space.
      padding, dtype: as in ``SplitConv``.
    """

    width: int
    stride: int
    padding: str
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t h w F"]:
        def norm(y, name):
            return BatchNorm(dtype=self.dtype, name=name)(y, mask, train)

        middle = middle_width(x.shape[-1], self.width)
        options = {"padding": self.padding, "dtype": self.dtype}
        strides = (self.stride, self.stride)
        y = SplitConv(middle, self.width, strides=strides, name="conv1", **options)(x, mask, train)
        y = nn.relu(norm(y, "bn1"))
        y = norm(SplitConv(middle, self.width, name="conv2", **options)(y, mask, train), "bn2")
        if self.stride > 1 or x.shape[-1] != self.width:
            x = x[:, :: self.stride, :: self.stride, :: self.stride]
            x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="shortcut")(x)
            x = norm(x, "shortcut_bn")
        return nn.relu(x + y)


class Encoder(ConvolutionalEncoder):
    """From frames to the feature map of the last stage, 512 channels at strides (8, 16, 16).

    Any size will do: it is rounded up at each stride.

    Attributes:
      blocks: residual blocks of each stage; every stage after the first halves time and space.
      width: channels of the stem and the first stage; each further stage has twice as many.
      temporal_padding, image_frames, dtype: as in ``ConvolutionalEncoder``.
      remat: rules on the blocks ``layer1_0`` to ``layer4_1``; see ``fgmm.models.layers.rematted``.
    """

    blocks: tuple[int, ...] = option((2, 2, 2, 2), low=1)
    width: int = option(64, low=1)

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = repeated(frames, self.image_frames, self.dtype)
        padding = padding_of(x.shape[1], self.temporal_padding)
        # torchvision's stem has 45 channels in the middle, which does not follow ``middle_width``.
        middle = max(1, 45 * self.width // 64)
        x = SplitConv(
            middle, self.width, padding, self.dtype, kernel=7, strides=(1, 2), name="stem"
        )(x, mask, train)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="stem_bn")(x, mask, train))
        for stage, count in enumerate(self.blocks):
            for number in range(count):
                name = f"layer{stage + 1}_{number}"
                stride = 2 if number == 0 and stage > 0 else 1
                block = rematted(Block, name, self.remat)
                x = block(self.width * 2**stage, stride, padding, self.dtype, name=name)(
                    x, mask, train
                )
        return Tokens.of_map(x, mask)
