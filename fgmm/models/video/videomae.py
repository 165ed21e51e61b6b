"""VideoMAE's video transformer: attention over all tubelets of a clip.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022 (arXiv 2203.12602), the encoder without masking.
``python -m fgmm.convert`` converts published weights.
"""

import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.patches import interpolation_note, resized_positions, sequence_positions
from fgmm.models.temporal import repeated
from fgmm.models.transformer import ACTIVATIONS, PublishedTransformer
from fgmm.models.video.vivit import tubelets

# Epsilon in the normalisation of the mean: PyTorch's default, as in the published code.
_EPSILON_OF_MEAN = 1e-5


class Encoder(PublishedTransformer):
    """From frames to a feature per tubelet, ``width`` channels at strides (tubelet, patch, patch).
    Their mean is the coarse feature.

    Sizes must be multiples of these strides. An image is repeated to fill a tubelet. Positions are
    fixed: those of one sequence of all tubelets. They are interpolated if the grid differs from
    ``positions``. Keys have biases, which the published network lacks; they do not change the
    attention.

    Attributes:
      width, depth, heads: 768, 12, 12 for ViT-B; 1024, 24, 16 for ViT-L.
      hidden, activation, epsilon: as in ``PublishedTransformer``.
      tubelet, patch: length of a token in frames, and its height and width in pixels.
      positions: the grid of tubelets in training: in time, rows and columns.
      norm: what the last normalisation is applied to: all ``"features"``, as in pre-training; only
        their ``"mean"``, as in fine-tuned classifiers; or ``"none"``.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.
      gives_coarse: marks encoders with a coarse feature of their own.
    """

    width: int = option(768, low=1)
    depth: int = option(12, low=1)
    heads: int = option(12, low=1)
    hidden: int = option(3072, low=1)
    activation: str = option("gelu", choices=tuple(ACTIVATIONS))
    epsilon: float = option(1e-12, above=0)
    tubelet: int = option(2, low=1)
    patch: int = option(16, low=1)
    positions: tuple[int, int, int] = option((8, 14, 14), low=1)
    norm: str = option("features", choices=("features", "mean", "none"))
    gives_coarse: ClassVar[bool] = True

    def note(self, frames: tuple[int, ...]) -> str:
        """A note for the user about clips of this shape [B,T,H,W,3]; often empty."""
        time = -(-frames[1] // self.tubelet)
        grid = (time, frames[2] // self.patch, frames[3] // self.patch)
        return interpolation_note(self.positions, grid)

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = tubelets(repeated(frames, self.tubelet, self.dtype), self.tubelet, self.patch)
        grid = x.shape[1:4]
        x = nn.Dense(self.width, dtype=self.dtype, name="embedding")(x)
        table = jnp.asarray(sequence_positions(math.prod(self.positions), self.width))
        table = table.reshape(*self.positions, self.width)
        x = x + resized_positions(table, grid).astype(self.dtype)[None]
        x = x.reshape(len(x), -1, self.width)
        x = self.through_blocks(x, None, train)
        if self.norm == "features":
            x = self.normalised(x, "norm")
        coarse = x.astype(jnp.float32).mean(axis=1)
        if self.norm == "mean":
            coarse = nn.LayerNorm(epsilon=_EPSILON_OF_MEAN, name="norm")(coarse)
        tokens = Tokens.of_map(x.reshape(len(x), *grid, self.width), mask)
        return tokens.replace(coarse=coarse)
