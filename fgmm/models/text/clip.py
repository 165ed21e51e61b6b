"""The text tower of CLIP.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021
(arXiv 2103.00020), section 2.4: a transformer with learned positions in which a token attends to
itself and earlier tokens. The state at the token that ends a caption is the feature of the caption.
``python -m fgmm.convert`` converts published weights.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int32

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.text.captions import CaptionTransformer
from fgmm.models.transformer import ACTIVATIONS


class Encoder(CaptionTransformer):
    """From tokens to one feature per phrase, and the state at the end token as the coarse feature.

    Tokens after the end token have no influence, so any padding will do. Defaults are those of
    OpenAI's ViT-B/16.

    Attributes:
      vocabulary, phrases, length: as in ``CaptionTransformer``.
      width, depth, heads: 512, 12, 8 in the model with ViT-B; 768, 12, 12 with ViT-L.
      hidden, activation, epsilon: as in ``PublishedTransformer``.
      end_token: id of the token that ends a caption; its first occurrence counts.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    width: int = option(512, low=1)
    depth: int = option(12, low=1)
    heads: int = option(8, low=1)
    hidden: int = option(2048, low=1)
    activation: str = option("quick_gelu", choices=tuple(ACTIVATIONS))
    length: int = option(77, low=1)
    end_token: int = option(49407, low=0)

    @nn.compact
    def __call__(
        self, tokens: Int32[Array, "B K L"], phrase_ids: Int32[Array, "B K L"], train: bool
    ) -> Tokens:
        tokens = tokens.reshape(-1, tokens.shape[-1])
        captions, count = tokens.shape
        before = jnp.broadcast_to(jnp.tri(count, dtype=bool), (captions, count, count))
        x = self.states(self.embedded(tokens), before, train)
        end = jnp.argmax(tokens == self.end_token, axis=1)
        coarse = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        return self.of_phrases(x, coarse, phrase_ids)
