"""Residual networks over pictures and spectrograms, and, with a temporal shift, over clips.

Version 1 is He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv
1512.03385), in the form of torchvision's resnet18 and resnet50: normalisation after a convolution,
a bottleneck's stride in its 3x3 convolution, symmetric padding. Version 2 is He et al., "Identity
Mappings in Deep Residual Networks", ECCV 2016 (arXiv 1603.05027), in the form of MMV (Alayrac et
al., arXiv 2006.16228; deepmind-research/mmv/models/tsm_resnet.py): normalisation before a
convolution, "SAME" padding.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.models.layers import BatchNorm, RematRules, max_pool, rematted
from fgmm.models.temporal import temporal_shift

VERSIONS = (1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or the three of a bottleneck, beside a shortcut.

    Attributes:
      width: channels of the 3x3 convolutions; a bottleneck's output has four times as many.
      stride: along both axes.
      bottleneck: 1x1, 3x3, 1x1 instead of 3x3, 3x3.
      version: 1 or 2; see the module.
      project: whether the shortcut is a convolution.
      shift: before the first convolution, 1/shift of the channels move a frame back in time and
        1/shift a frame on; the input is then [B,T,H,W,E]. 0 for no shift.
      temporal_padding: padding of the shift.
      dtype: dtype of the activations.
    """

    width: int
    stride: int
    bottleneck: bool
    version: int
    project: bool
    shift: int = 0
    temporal_padding: str = "zeros"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *frames H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B *frames h w F"]:
        if self.bottleneck:
            layers = ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1))
        else:
            layers = ((self.width, 3, self.stride), (self.width, 3, 1))

        def norm(y, name):
            return BatchNorm(dtype=self.dtype, name=name)(y, mask, train)

        def shifted(y):
            return temporal_shift(y, self.shift, self.temporal_padding) if self.shift else y

        if self.version == 2:
            y = nn.relu(norm(x, "bn1"))
            shortcut = x
            if self.project:
                shortcut = self._conv(y, layers[-1][0], 1, self.stride, "shortcut")
            y = shifted(y)
            for number, layer in enumerate(layers, start=1):
                if number > 1:
                    y = nn.relu(norm(y, f"bn{number}"))
                y = self._conv(y, *layer, f"conv{number}")
            return shortcut + y

        y = shifted(x)
        for number, layer in enumerate(layers, start=1):
            y = norm(self._conv(y, *layer, f"conv{number}"), f"bn{number}")
            if number < len(layers):
                y = nn.relu(y)
        if self.project:
            x = norm(self._conv(x, layers[-1][0], 1, self.stride, "shortcut"), "shortcut_bn")
        return nn.relu(x + y)

    def _conv(self, x: Array, width: int, kernel: int, stride: int, name: str) -> Array:
        return conv2d(x, width, kernel, stride, self.version, self.dtype, name)


def conv2d(
    x: Array, width: int, kernel: int, stride: int, version: int, dtype: str, name: str
) -> Array:
    """A square convolution without bias in the calling module, with the padding of ``version``."""
    padding = "SAME" if version == 2 else [(kernel // 2, kernel // 2)] * 2
    return nn.Conv(
        width, (kernel, kernel), (stride, stride), padding, use_bias=False, dtype=dtype, name=name
    )(x)


class ResNet(nn.Module):
    """A stem of stride 4, then a stage for each entry of ``blocks``. Each stage after the first
    halves both axes. Any size will do: it is rounded up at each stride.

    Attributes:
      blocks: residual blocks of each stage.
      width: channels of the stem and the first stage; each further stage has twice as many. With
        bottlenecks the output of a stage has four times as many.
      bottleneck, version, shift, temporal_padding, dtype: as in ``ResidualBlock``.
      remat: rules on the blocks ``layer1_0``, ``layer1_1``, ...; see ``layers.rematted``.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    width: int = 64
    version: int = 1
    shift: int = 0
    temporal_padding: str = "zeros"
    dtype: str = "float32"
    remat: RematRules = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *frames H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B *frames h w F"]:
        x = conv2d(x, self.width, 7, 2, self.version, self.dtype, "conv1")
        if self.version == 1:
            x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, mask, train))
        for axis in (x.ndim - 3, x.ndim - 2):
            x = max_pool(x, axis, 3, 2, low=1 if self.version == 1 else None)
        for stage, count in enumerate(self.blocks):
            width = self.width * 2**stage
            for number in range(count):
                first = number == 0
                stride = 2 if first and stage > 0 else 1
                widens = x.shape[-1] != width * (4 if self.bottleneck else 1)
                name = f"layer{stage + 1}_{number}"
                x = rematted(ResidualBlock, name, self.remat)(
                    width=width,
                    stride=stride,
                    bottleneck=self.bottleneck,
                    version=self.version,
                    project=first if self.version == 2 else stride > 1 or widens,
                    shift=self.shift,
                    temporal_padding=self.temporal_padding,
                    dtype=self.dtype,
                    name=name,
                )(x, mask, train)
        if self.version == 2:
            x = nn.relu(BatchNorm(dtype=self.dtype, name="bn_last")(x, mask, train))
        return x
