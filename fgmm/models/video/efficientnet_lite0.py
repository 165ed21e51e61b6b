"""EfficientNet-Lite0, an image network, applied to each frame.

Tan and Le, "EfficientNet", ICML 2019 (arXiv 1905.11946), in the form for edge devices that its
authors published as EfficientNet-Lite (tensorflow/tpu, ``efficientnet/lite``): no
squeeze-and-excitation, ReLU6 instead of swish, stem and head of fixed width. Inverted residual
blocks are those of Sandler et al., "MobileNetV2", CVPR 2018 (arXiv 1801.04381). Submodules are
named as in the state dict of the Python package ``efficientnet_lite_pytorch``, without the leading
underscore: ``_blocks.3._depthwise_conv.weight`` is the parameter
``blocks_3/depthwise_conv/kernel``.

Published weights expect pixels as (x - 127) / 128.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder, BatchNorm, rematted


class Stage(NamedTuple):
    """Blocks of one width. All have the kernel; only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, width=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, width=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, width=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, width=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, width=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, width=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, width=320),
)
STEM, HEAD = 32, 1280


def depthwise_conv(
    x: Float[Array, "M H W E"],
    kernel: Float[Array, "r s 1 E"],
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, "M h w E"]:
    """As ``jax.lax.conv_general_dilated`` with one group for each channel. XLA on a CPU is slow at
    groups. There the result is a sum of shifted pictures, each times an entry of the kernel.

    Args:
      x: pictures.
      kernel: a kernel for each channel.
      strides, padding: of rows and columns.
      options: further options of ``conv_general_dilated``.
    """

    def of_shifts(x, kernel):
        window, pads = kernel.shape[:2], padding
        if isinstance(padding, str):
            pads = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        H, W = (size - extent for size, extent in zip(x.shape[1:3], window, strict=True))

        def shifted(row, column):
            limit = (x.shape[0], row + H + 1, column + W + 1, x.shape[-1])
            return jax.lax.slice(x, (0, row, column, 0), limit, (1, *strides, 1))

        entries = itertools.product(range(window[0]), range(window[1]))
        return sum(shifted(*entry) * kernel[entry].reshape(1, 1, 1, -1) for entry in entries)

    def of_groups(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)

    return jax.lax.platform_dependent(x, kernel, cpu=of_shifts, default=of_groups)


def convolved(
    x: Float[Array, "B T H W E"],
    mask: Bool[Array, "B"],
    train: bool,
    *,
    conv: str,
    norm: str,
    width: int,
    momentum: float,
    dtype: str,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> Float[Array, "B T h w F"]:
    """A convolution of every frame, without bias, and a batch normalisation, as layers of the
    calling module.

    The padding is TensorFlow's "SAME": for an even size at stride 2 only the far side is padded.

    Args:
      conv, norm: names of the two submodules.
      width: output channels.
      momentum: decay of the running statistics.
      dtype: dtype of the activations.
      kernel, stride: along both axes.
      groups: groups of channels: 1, or the number of channels for a depthwise convolution.
    """
    x = nn.Conv(
        width,
        (kernel, kernel),
        (stride, stride),
        "SAME",
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        conv_general_dilated=depthwise_conv if groups > 1 else None,
        name=conv,
    )(x)
    # The published epsilon; other networks of this package have another.
    return BatchNorm(momentum=momentum, epsilon=1e-3, dtype=dtype, name=norm)(x, mask, train)


class Block(nn.Module):
    """An inverted residual block: channels are expanded, convolved one by one, and projected.

    Attributes:
      stage: the stage that the block belongs to.
      stride: stride of the block: 1 in all but the first block of a stage.
      momentum: decay of the running statistics.
      dtype: dtype of the activations.
    """

    stage: Stage
    stride: int
    momentum: float
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B T h w F"]:
        def layer(x, conv, norm, width, **options):
            names = {"conv": conv, "norm": norm, "width": width}
            shared = {"momentum": self.momentum, "dtype": self.dtype}
            return convolved(x, mask, train, **names, **shared, **options)

        y, wide = x, x.shape[-1] * self.stage.expansion
        if self.stage.expansion > 1:
            y = nn.relu6(layer(y, "expand_conv", "bn0", wide))
        options = {"kernel": self.stage.kernel, "stride": self.stride, "groups": wide}
        y = nn.relu6(layer(y, "depthwise_conv", "bn1", wide, **options))
        y = layer(y, "project_conv", "bn2", self.stage.width)
        return x + y if y.shape == x.shape else y


class Encoder(BaseEncoder):
    """From frames to the feature map before pooling, 1,280 channels at strides (1, 32, 32): T
    frames of 224 x 224 pixels give T x 7 x 7 local features.

    Any size will do: it is rounded up at each stride. Training has no stochastic depth.

    Attributes:
      blocks: number of blocks of each stage; with fewer numbers the last stages are left out.
      momentum: decay of the running statistics. With the published 0.99 they need hundreds of steps
        to settle.
      norm: normalisation of the output: ``"none"``, or ``"layer"`` for a learned normalisation of
        every cell over its channels, as in the encoder ``features``.
      dtype: dtype of the activations.
      remat: rules on the blocks ``blocks_0`` to ``blocks_15``; see ``fgmm.models.layers.rematted``.
    """

    blocks: tuple[int, ...] = option(tuple(stage.blocks for stage in STAGES), low=1)
    momentum: float = option(0.99, low=0.0, high=1.0)
    norm: str = option("none", choices=("none", "layer"))

    def __post_init__(self):
        super().__post_init__()
        if len(self.blocks) > len(STAGES):
            raise ValueError(f"blocks={self.blocks} must have at most {len(STAGES)} numbers")

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = frames.astype(self.dtype)
        shared = {"momentum": self.momentum, "dtype": self.dtype}
        stem = {"conv": "conv_stem", "norm": "bn0", "width": STEM, "kernel": 3, "stride": 2}
        x = nn.relu6(convolved(x, mask, train, **stem, **shared))
        number = 0
        for stage, blocks in zip(STAGES, self.blocks, strict=False):
            for place in range(blocks):
                name = f"blocks_{number}"
                block = rematted(Block, name, self.remat)
                stride = 1 if place else stage.stride
                x = block(stage=stage, stride=stride, **shared, name=name)(x, mask, train)
                number += 1
        head = {"conv": "conv_head", "norm": "bn1", "width": HEAD}
        x = nn.relu6(convolved(x, mask, train, **head, **shared))
        if self.norm == "layer":
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return Tokens.of_map(x, mask)
