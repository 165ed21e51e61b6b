"""A residual network over frames whose blocks shift channels in time.

Lin et al., "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019 (arXiv
1811.08383); the video encoder of MMV (Alayrac et al., NeurIPS 2020, arXiv 2006.16228).
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.models.embeddings import Tokens
from fgmm.models.layers import RematRules, check_options
from fgmm.models.residual import ResNet, check_network
from fgmm.models.temporal import check_padding, padding_of, repeated


class Encoder(nn.Module):
    """Frames to the feature map of the last stage, 2,048 channels at strides (1, 32, 32).

    Any size will do: it is rounded up at each stride.

    Attributes:
      blocks: residual blocks of each stage; (3, 4, 23, 3) makes it TSM-101.
      width: channels of the stem.
      version: of the residual network, 2 as MMV has it or 1 as torchvision's resnet50; see
        ``fgmm.models.residual``.
      shift: one in so many channels moves a frame back, and one a frame on.
      temporal_padding: of clips, ``"zeros"`` or ``"edge"``; that of images repeats the edge, which
        is no shift at all.
      image_frames: frames to which an image is repeated ("inflation"); 1 for "deflation".
      dtype: of the activations.
      remat: rules on the blocks ``layer1_0`` to ``layer4_2``; see ``fgmm.models.layers.rematted``.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    version: int = 2
    shift: int = 8
    temporal_padding: str = "zeros"
    image_frames: int = 1
    dtype: str = "float32"
    remat: RematRules = ()

    def __post_init__(self):
        check_options(self.dtype, self.remat)
        check_network(self.blocks, self.width, self.version)
        check_padding(self.temporal_padding, self.image_frames)
        if not 2 <= self.shift <= self.width:
            raise ValueError(f"shift={self.shift} must be from 2 to width={self.width}")
        super().__post_init__()

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
