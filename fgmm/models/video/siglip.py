"""The image tower of SigLIP, over frames one by one.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (arXiv 2303.15343), and
Tschannen et al., "SigLIP 2", 2025 (arXiv 2502.14786) at fixed sizes: a vision transformer with
learned positions and without a class token, pooled by attention (Zhai et al., "Scaling Vision
Transformers", arXiv 2106.04560, section 3.2). ``python -m fgmm.convert`` converts published
weights.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.transformer import ACTIVATIONS, perceptron
from fgmm.models.video.pictures import PictureTransformer


class AttentionPooling(nn.Module):
    """One learned query attends to all patches of a picture; a perceptron with a residual
    connection follows.

    Attributes:
      heads: attention heads; their number divides the width.
      hidden, activation, epsilon: as in ``perceptron``.
      dtype: dtype of the activations.
    """

    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "M N E"]) -> Float[Array, "M E"]:
        pictures, _, width = x.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, width))
        probe = jnp.broadcast_to(probe[None], (pictures, 1, width)).astype(x.dtype)
        by_head = (self.heads, width // self.heads)
        query, key, value = (
            nn.DenseGeneral(by_head, dtype=self.dtype, name=name)(given)
            for name, given in (("query", probe), ("key", x), ("value", x))
        )
        y = jax.nn.dot_product_attention(query, key, value)
        y = nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name="out")(y)
        form = {"hidden": self.hidden, "activation": self.activation, "epsilon": self.epsilon}
        return (y + perceptron(y, self.dtype, **form))[:, 0]


class Encoder(PictureTransformer):
    """From frames to one feature per patch. The pooled patches are the feature of a frame, and a
    clip's coarse feature is the mean over its frames.

    Defaults are those of SigLIP's ViT-B/16 for pictures of 224 x 224 pixels.

    Attributes:
      width, depth, heads: 768, 12, 12 for ViT-B; 1152, 27, 16 for So400m.
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
    activation: str = option("gelu_tanh", choices=tuple(ACTIVATIONS))
    epsilon: float = option(1e-6, above=0)
    patch: int = option(16, low=1)
    positions: tuple[int, int] = option((14, 14), low=1)

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x, grid = self.patches(frames, bias=True)
        cells = self.positions[0] * self.positions[1]
        normal = nn.initializers.normal(self.width**-0.5)
        x = self.placed(x, grid, self.param("positions", normal, (cells, self.width)))
        x = self.normalised(self.through_blocks(x, None, train), "norm")
        form = {"hidden": self.hidden, "activation": self.activation, "epsilon": self.epsilon}
        pooling = AttentionPooling(heads=self.heads, dtype=self.dtype, **form, name="pooling")
        return self.of_clips(x, pooling(x), grid, mask)
