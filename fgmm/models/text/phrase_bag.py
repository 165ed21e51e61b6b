"""A bag of words: each word is embedded and passes one layer; phrases take the maximum.

The text tower of MIL-NCE (Miech et al., CVPR 2020, arXiv 1912.06430, section 3.1; github.com/
antoine77340/S3D_HowTo100M), but for each phrase. The maximum over a caption's phrases is the
maximum over its words. So a linear head in a space with ``pool="max"`` is the last layer of the
published tower.

With ``hidden=0`` and ``pool="mean"`` a phrase is the mean of its words' embeddings, as in WordLlama
(github.com/dleemiller/WordLlama), whose embeddings ``python -m fgmm.convert`` converts.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder, rematted
from fgmm.models.text.phrase_pooling import means, of_captions, phrase_members


class Encoder(BaseEncoder):
    """From tokens to one feature per phrase, of ``hidden`` channels, or ``width`` if that is 0.

    Attributes:
      vocabulary: how many ids the tokenizer has; set from the tokenizer, not by a config.
      phrases: P; set from ``config.data.phrases``.
      width: width of a word's embedding.
      hidden: width of the layer with ReLU on every word; 0 for no such layer.
      pool: over the words of a phrase, ``"max"`` or ``"mean"``.
      padding_counts: whether all tokens in no phrase, padding included, count as words of each
        phrase, as in the network of MIL-NCE.
      dropout: share of a word's embedding set to 0 in training.
      dtype: dtype of the activations.
      remat: rules on its only block ``fc1``, the layer and the pool; see
        ``fgmm.models.layers.rematted``.
    """

    vocabulary: int
    phrases: int
    width: int = option(300, low=1)
    hidden: int = option(2048, low=0)
    pool: str = option("max", choices=("max", "mean"))
    padding_counts: bool = False
    dropout: float = option(0.0, low=0, below=1)

    @nn.compact
    def __call__(
        self, tokens: Int32[Array, "B K L"], phrase_ids: Int32[Array, "B K L"], train: bool
    ) -> Tokens:
        members = phrase_members(phrase_ids, self.phrases)
        valid = jnp.any(members, axis=-1)
        if self.padding_counts:
            members |= (phrase_ids.reshape(-1, 1, tokens.shape[-1]) == 0) & valid[..., None]
        words = tokens.reshape(-1, tokens.shape[-1])
        x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="word_embd")(words)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)

        def of_phrases(module, x, members):
            if module.hidden:
                x = nn.relu(nn.Dense(module.hidden, dtype=module.dtype, name="fc1")(x))
            if module.pool == "mean":
                return means(x, members)
            return jnp.where(valid[..., None], _largest(x, members), 0)

        x = rematted(of_phrases, "fc1", self.remat, static_argnums=())(self, x, members)
        return of_captions(x, valid, phrase_ids.shape[1])


def _largest(x: Float[Array, "M L E"], members: Bool[Array, "M P L"]) -> Float[Array, "M P E"]:
    """The maximum over the members of each phrase. It is computed phrase by phrase, because all
    phrases at once would take P times the memory of ``x``.
    """

    @jax.checkpoint
    def of_phrase(member):
        return jnp.max(jnp.where(member[..., None], x, jnp.finfo(x.dtype).min), axis=1)

    return jnp.moveaxis(jax.lax.map(of_phrase, jnp.moveaxis(members, 1, 0)), 0, 1)
