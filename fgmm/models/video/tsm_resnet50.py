"""A residual network over frames whose blocks shift channels in time.

Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019 (arXiv
1811.08383); the video encoder of MMV (Alayrac et al., NeurIPS 2020, arXiv 2006.16228).
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.residual import VERSIONS, ResNet
from fgmm.models.temporal import ConvolutionalEncoder, padding_of, repeated


class Encoder(ConvolutionalEncoder):
    """From frames to the feature map of the last stage, 2,048 channels at strides (1, 32, 32).

    Any size will do: it is rounded up at each stride.

    Attributes:
      blocks: residual blocks of each stage; (3, 4, 23, 3) makes it TSM-101.
      width: channels of the stem.
      version: of the residual network: 2 as in MMV, or 1 as in torchvision's resnet50; see
        ``fgmm.models.residual``.
      shift: 1/shift of the channels move a frame back in time and 1/shift a frame on.
      temporal_padding, image_frames, dtype: as in ``ConvolutionalEncoder``. The shift does not
        change an image, since its edge is repeated.
      remat: rules on the blocks ``layer1_0`` to ``layer4_2``; see ``fgmm.models.layers.rematted``.
    """

    blocks: tuple[int, ...] = option((3, 4, 6, 3), low=1)
    width: int = option(64, low=1)
    version: int = option(2, choices=VERSIONS)
    shift: int = 8

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.shift <= self.width:
            raise ValueError(f"shift={self.shift} must be from 2 to width={self.width}")

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = repeated(frames, self.image_frames, self.dtype)
        x = ResNet(
            blocks=self.blocks,
            bottleneck=True,
            width=self.width,
            version=self.version,
            shift=self.shift,
            temporal_padding=padding_of(x.shape[1], self.temporal_padding),
            dtype=self.dtype,
            remat=self.remat,
            name="resnet",
        )(x, mask, train)
        return Tokens.of_map(x, mask)
