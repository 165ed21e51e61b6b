"""Stored features as local features: what another model's frozen encoder made of the pictures."""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder, rematted


class Encoder(BaseEncoder):
    """Every cell of a stored feature map is a local feature, E channels as they are stored.

    Attributes:
      norm: ``"none"``, or ``"layer"`` for a learned normalisation of every cell over its channels
        (Ba, Kiros, Hinton, arXiv 1607.06450).
      dtype: of the features.
      remat: rules on ``norm``, the one block; see ``fgmm.models.layers.rematted``.
      takes_features: tells this encoder from those of pixels.
    """

    norm: str = option("none", choices=("none", "layer"))
    takes_features = True

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        del train
        x = frames.astype(self.dtype)
        if self.norm == "layer":
            norm = rematted(nn.LayerNorm, "norm", self.remat, static_argnums=())
            x = norm(dtype=self.dtype, name="norm")(x)
        return Tokens.of_map(x, mask)
