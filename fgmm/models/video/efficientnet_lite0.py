"""EfficientNet-Lite0, an image network, over frames one by one.

Tan and Le, "EfficientNet", ICML 2019 (arXiv 1905.11946), in the form for edge devices that its
authors published as EfficientNet-Lite (tensorflow/tpu, ``efficientnet/lite``): no squeeze and
excitation, ReLU6 in the place of swish, stem and head of fixed width. Inverted residual blocks are
those of Sandler et al., "MobileNetV2", CVPR 2018 (arXiv 1801.04381). Submodules are named as in the
state dict of the Python package ``efficientnet_lite_pytorch``, without the leading underscore:
``_blocks.3._depthwise_conv.weight`` is the parameter ``blocks_3/depthwise_conv/kernel``.

Published weights take pixels as (x - 127) / 128.
"""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder, BatchNorm, rematted


class Stage(NamedTuple):
    """Blocks of one width. The first has the stride, and all have the kernel."""

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


def convolved(
    x: Float[Array, "B T H W E"],
    mask: Bool[Array, "B"],
    train: bool,
    *,
    conv: str,
    norm: str,
    width: int,
    dtype: str,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> Float[Array, "B T h w F"]:
    """A convolution without bias of every frame, normalised; within the module that calls it.

    Its padding is TensorFlow's "SAME": of an even size at stride 2 the far side alone is padded.

    Args:
      conv, norm: names of the two submodules.
      width: output channels.
      dtype: of the activations.
      kernel, stride: along both axes.
      groups: of channels; as many as channels for a depthwise convolution.
    """
    x = nn.Conv(
        width,
        (kernel, kernel),
        (stride, stride),
        "SAME",
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        name=conv,
    )(x)
    # Epsilon and momentum are published; those of this package's other networks differ.
    return BatchNorm(momentum=0.99, epsilon=1e-3, dtype=dtype, name=norm)(x, mask, train)


class Block(nn.Module):
    """An inverted residual block: channels expanded, each convolved alone, and projected.

    Attributes:
      stage: that it belongs to.
      stride: its own, 1 in all blocks of a stage but the first.
      dtype: of the activations.
    """

    stage: Stage
    stride: int
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B T h w F"]:
        def layer(x, conv, norm, width, **options):
            names = {"conv": conv, "norm": norm, "width": width, "dtype": self.dtype}
            return convolved(x, mask, train, **names, **options)

        y, wide = x, x.shape[-1] * self.stage.expansion
        if self.stage.expansion > 1:
            y = nn.relu6(layer(y, "expand_conv", "bn0", wide))
        options = {"kernel": self.stage.kernel, "stride": self.stride, "groups": wide}
        y = nn.relu6(layer(y, "depthwise_conv", "bn1", wide, **options))
        y = layer(y, "project_conv", "bn2", self.stage.width)
        return x + y if y.shape == x.shape else y


class Encoder(BaseEncoder):
    """Frames to the feature map before pooling, 1,280 channels at strides (1, 32, 32): T frames of
    224 x 224 pixels give T x 7 x 7 local features.

    Any size will do: it is rounded up at each stride. Training has no stochastic depth.

    Attributes:
      blocks: of each stage; fewer stages end the network earlier.
      dtype: of the activations.
      remat: rules on the blocks ``blocks_0`` to ``blocks_15``; see ``fgmm.models.layers.rematted``.
    """

    blocks: tuple[int, ...] = option(tuple(stage.blocks for stage in STAGES), low=1)

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= len(self.blocks) <= len(STAGES):
            raise ValueError(f"blocks={self.blocks} must be from 1 to {len(STAGES)} stages")

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = frames.astype(self.dtype)
        shared = {"dtype": self.dtype}
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
        return Tokens.of_map(nn.relu6(convolved(x, mask, train, **head, **shared)), mask)
