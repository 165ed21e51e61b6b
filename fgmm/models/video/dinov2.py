"""DINOv2's image transformer, over frames one by one.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023 (arXiv
2304.07193): a vision transformer with a class token, learned positions and scaled branches, and
optionally with registers (Darcet et al., arXiv 2309.16588) and SwiGLU. ``python -m fgmm.convert``
converts published weights.
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

    Defaults are those of ViT-B/14, whose positions are for pictures of 518 x 518 pixels.

    Attributes:
      width, depth, heads: 384, 12, 6 for ViT-S; 1024, 24, 16 for ViT-L; 1536, 40, 24 for ViT-g.
      hidden, activation, epsilon: as in ``PublishedTransformer``; ViT-g has 4096 and ``"swiglu"``.
      patch, positions, temporal_depth: as in ``PictureTransformer``.
      registers: number of learned tokens beside the class token; their features are not returned.
      antialias: how positions are interpolated; see ``resized_positions``.
      layer_scale: initial value of ``LayerScale`` on the branches of a block.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    width: int = option(768, low=1)
    depth: int = option(12, low=1)
    heads: int = option(12, low=1)
    hidden: int = option(3072, low=1)
    activation: str = option("gelu", choices=tuple(ACTIVATIONS))
    epsilon: float = option(1e-6, above=0)
    patch: int = option(14, low=1)
    positions: tuple[int, int] = option((37, 37), low=1)
    registers: int = option(0, low=0)
    antialias: bool = False
    layer_scale: float = option(1.0, above=0)

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x, grid = self.patches(frames, bias=True)
        extra = {"registers": self.registers, "antialias": self.antialias}
        x = self.with_class_token(x, grid, nn.initializers.normal(0.02), **extra)
        x = self.through_blocks(x, None, train, layer_scale=self.layer_scale)
        x = self.normalised(x, "norm")
        return self.of_clips(x[:, 1 + self.registers :], x[:, 0], grid, mask)
