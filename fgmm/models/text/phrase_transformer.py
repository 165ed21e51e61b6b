"""A small pre-norm transformer over SentencePiece tokens whose output is pooled by phrase.

Vaswani et al. 2017 (arXiv 1706.03762) with normalisation before each block and rotary positions
(Su et al. 2021, arXiv 2104.09864).
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int32

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.text.phrase_pooling import of_captions, phrase_means
from fgmm.models.transformer import TransformerEncoder


class Encoder(TransformerEncoder):
    """From tokens to one feature per phrase: the mean of the transformer's output over its tokens.

    Attributes:
      vocabulary: how many ids the tokenizer has; set from the tokenizer, not by a config.
      phrases: P; set from ``config.data.phrases``.
      width: width of a token.
      depth: number of blocks.
      heads: attention heads; twice their number divides ``width``.
      context: what a token attends to: the phrases of its whole ``"caption"``, or only its own
        ``"phrase"``, so that a phrase is embedded without its neighbours.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``Block_0``, ``Block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    vocabulary: int
    phrases: int
    width: int = option(128, low=1)
    depth: int = option(2, low=1)
    heads: int = option(4, low=1)
    context: str = option("caption", choices=("caption", "phrase"))
    rotary: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, tokens: Int32[Array, "B K L"], phrase_ids: Int32[Array, "B K L"], train: bool
    ) -> Tokens:
        captions, length = tokens.shape[1:]
        tokens = tokens.reshape(-1, length)
        ids = phrase_ids.reshape(-1, length)
        valid = ids > 0
        attend = valid[:, None, :] & valid[:, :, None]
        if self.context == "phrase":
            attend &= ids[:, None, :] == ids[:, :, None]
        # A padding token attends to itself, so that no row of the attention is empty.
        attend |= jnp.eye(length, dtype=bool)[None]

        x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype)(tokens)
        x = self.through_blocks(x, attend, train, prefix="Block", rotary=True)
        x = nn.LayerNorm(dtype=self.dtype)(x)

        return of_captions(*phrase_means(x, phrase_ids, self.phrases), captions)
