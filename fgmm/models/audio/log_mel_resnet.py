"""The base class of residual networks over log-mel spectrograms. As in MMV's audio encoder (Alayrac
et al., arXiv 2006.16228, section 3.1), a spectrogram is treated as a picture with one channel.
"""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder
from fgmm.models.residual import VERSIONS, ResNet


class LogMelResNet(BaseEncoder):
    """From a spectrogram to a feature map of patches in time and frequency.

    Any size will do: it is rounded up at each stride.

    Attributes:
      blocks: residual blocks of each stage.
      width: channels of the stem.
      version: of the residual network: 2 as in MMV, or 1 as in torchvision; see
        ``fgmm.models.residual``.
      dtype: dtype of the activations.
      remat: rules on the blocks; see ``fgmm.models.layers.rematted``.
    """

    blocks: tuple[int, ...]
    width: int = option(64, low=1)
    version: int = option(2, choices=VERSIONS)
    bottleneck: ClassVar[bool]

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "B T F"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = ResNet(
            blocks=self.blocks,
            bottleneck=self.bottleneck,
            width=self.width,
            version=self.version,
            dtype=self.dtype,
            remat=self.remat,
            name="resnet",
        )(log_mel[..., None], mask, train)
        return Tokens.of_map(x, mask)
