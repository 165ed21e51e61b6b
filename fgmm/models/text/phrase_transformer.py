"""A small pre-norm transformer over SentencePiece tokens whose output is pooled by phrase.

Vaswani et al. 2017 (arXiv 1706.03762) with normalisation before each block and rotary positions
(Su et al. 2021, arXiv 2104.09864).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int32

from fgmm.models.attention import Block, check_transformer, depth_rates
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import RematRules, check_options, rematted
from fgmm.models.text.phrase_pooling import of_captions, phrase_members


class Encoder(nn.Module):
    """Tokens to one feature a phrase: the mean over its tokens of the transformer's output.

    Attributes:
      vocabulary: pieces of the tokenizer; set from the tokenizer, not by a config.
      phrases: P; set from ``config.data.phrases``.
      width: of the token stream.
      depth: blocks.
      heads: attention heads; they divide ``width``.
      context: what a token attends to: its whole ``"caption"``, or its ``"phrase"`` alone, so that
        a phrase is embedded without its neighbours.
      dropout: share of each branch's elements set to 0 in training.
      stochastic_depth: of the last block in training; 0 for the first, linear between.
      dtype: of the activations.
      remat: rules on the blocks ``Block_0``, ``Block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    vocabulary: int
    phrases: int
    width: int = 128
    depth: int = 2
    heads: int = 4
    context: str = "caption"
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    dtype: str = "float32"
    remat: RematRules = ()

    def __post_init__(self):
        check_options(self.dtype, self.remat)
        check_transformer(self.width, self.depth, self.heads, self.dropout, self.stochastic_depth)
        if self.context not in ("caption", "phrase"):
            raise ValueError(f"context={self.context!r} is unknown; allowed: caption, phrase")
        super().__post_init__()

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
        for number, rate in enumerate(depth_rates(self.stochastic_depth, self.depth)):
            name = f"Block_{number}"
            x = rematted(Block, name, self.remat)(
                heads=self.heads,
                rotary=True,
                dropout=self.dropout,
                stochastic_depth=rate,
                dtype=self.dtype,
                name=name,
            )(x, attend, train)
        x = nn.LayerNorm(dtype=self.dtype)(x)

        member = phrase_members(phrase_ids, self.phrases).astype(jnp.float32)
        count = member.sum(axis=-1, keepdims=True)
        phrases = jnp.einsum("mpl,mle->mpe", member, x) / jnp.maximum(count, 1.0)
        return of_captions(phrases, count[..., 0] > 0, captions)
