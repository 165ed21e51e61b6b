"""The text tower of SigLIP.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (arXiv 2303.15343): a
transformer with learned positions in which all tokens attend to each other, padding included. The
state at the last position, which usually is padding, is the feature of the caption.
``python -m fgmm.convert`` converts published weights.
"""

import flax.linen as nn
from jaxtyping import Array, Int32

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.text.captions import CaptionTransformer
from fgmm.models.transformer import ACTIVATIONS


class Encoder(CaptionTransformer):
    """From tokens to one feature per phrase, and the state at the last position as the coarse
    feature.

    It was trained on captions padded to ``length``, so ``config.data.tokens`` should equal that.
    Defaults are those of SigLIP's ViT-B/16.

    Attributes:
      vocabulary, phrases, length: as in ``CaptionTransformer``.
      width, depth, heads: 768, 12, 12 in the model with ViT-B; 1152, 27, 16 with So400m.
      hidden, activation, epsilon: as in ``PublishedTransformer``.
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
    length: int = option(64, low=1)

    def note(self, tokens: tuple[int, ...]) -> str:
        """A note for the user about captions of this shape [B,K,L]; often empty."""
        if tokens[-1] == self.length:
            return ""
        return (
            f"the feature of a caption is the state at token {tokens[-1]}; published weights were "
            f"trained for token {self.length} (data.tokens={self.length})"
        )

    @nn.compact
    def __call__(
        self, tokens: Int32[Array, "B K L"], phrase_ids: Int32[Array, "B K L"], train: bool
    ) -> Tokens:
        x = self.embedded(tokens.reshape(-1, tokens.shape[-1]))
        x = self.states(x, None, train)
        return self.of_phrases(x, x[:, -1], phrase_ids)
