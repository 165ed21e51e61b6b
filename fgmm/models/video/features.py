"""Local features that were stored, from the frozen encoder of another model."""

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import check_options, option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import DTYPES


class Encoder(nn.Module):
    """Every cell of a stored feature map is a local feature, with the E stored channels.

    Attributes:
      norm: ``"none"``, or ``"layer"`` for a learned normalisation of every cell over its channels
        (Ba, Kiros, Hinton, arXiv 1607.06450).
      dtype: dtype of the features.
      takes_features: marks encoders that take stored features instead of pixels.
    """

    norm: str = option("none", choices=("none", "layer"))
    dtype: str = option("float32", choices=DTYPES)
    takes_features: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        check_options(self)

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        del train
        x = frames.astype(self.dtype)
        if self.norm == "layer":
            x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return Tokens.of_map(x, mask)
