"""The image tower of CLIP, over frames one by one.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021
(arXiv 2103.00020): a vision transformer with a class token, learned positions, and a normalisation
before its blocks. ``python -m fgmm.convert`` converts published weights.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.transformer import ACTIVATIONS
from fgmm.models.video.pictures import PictureTransformer


class Encoder(PictureTransformer):
    """From frames to one feature per patch, and the class token as the feature of a frame. Both are
    normalised by the same layer. A clip's coarse feature is the mean over its frames.

    Defaults are those of OpenAI's ViT-B/16 for pictures of 224 x 224 pixels.

    Attributes:
      width, depth, heads: 768, 12, 12 for ViT-B; 1024, 24, 16 for ViT-L.
      hidden, activation, epsilon: as in ``PublishedTransformer``.
      patch, positions, temporal_depth: as in ``PictureTransformer``.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    width: int = option(768, low=1)
    depth: int = option(12, low=1)
    heads: int = option(12, low=1)
    hidden: int = option(3072, low=1)
    activation: str = option("quick_gelu", choices=tuple(ACTIVATIONS))
    patch: int = option(16, low=1)
    positions: tuple[int, int] = option((14, 14), low=1)

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x, grid = self.patches(frames, bias=False)
        x = self.with_class_token(x, grid, nn.initializers.normal(self.width**-0.5))
        x = self.normalised(x, "norm_before")
        x = self.normalised(self.through_blocks(x, None, train), "norm")
        return self.of_clips(x[:, 1:], x[:, 0], grid, mask)
