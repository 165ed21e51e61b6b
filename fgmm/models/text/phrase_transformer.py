"""A small pre-norm transformer over SentencePiece tokens whose output is pooled by phrase.

Vaswani et al. 2017 (arXiv 1706.03762) with normalisation before each block and rotary positions
(Su et al. 2021, arXiv 2104.09864).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from fgmm.models.embeddings import Tokens


def rotate(x: Float[Array, "M L heads E"]) -> Float[Array, "M L heads E"]:
    """Rotary position embedding, base 10,000 (arXiv 2104.09864, equation 34)."""
    length, half = x.shape[1], x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half) / half)
    angle = (jnp.arange(length)[:, None] * frequency)[None, :, None, :]
    a, b = x[..., :half], x[..., half:]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each with a residual connection.

    Attributes:
      heads: attention heads; they divide the width.
    """

    heads: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "M L E"], attend: Bool[Array, "M L L"]
    ) -> Float[Array, "M L E"]:
        width = x.shape[-1]
        y = nn.LayerNorm()(x)
        query, key, value = jnp.split(
            nn.DenseGeneral((3 * self.heads, width // self.heads), use_bias=False)(y), 3, axis=2
        )
        y = jax.nn.dot_product_attention(
            rotate(query), rotate(key), value, mask=attend[:, None, :, :]
        )
        x = x + nn.DenseGeneral(width, axis=(-2, -1))(y)
        y = nn.Dense(4 * width)(nn.LayerNorm()(x))
        return x + nn.Dense(width)(nn.gelu(y))


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
    """

    vocabulary: int
    phrases: int
    width: int = 128
    depth: int = 2
    heads: int = 4
    context: str = "caption"

    def __post_init__(self):
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width} must be a multiple of 2 x heads={self.heads}")
        if self.context not in ("caption", "phrase"):
            raise ValueError(f"context={self.context!r} is unknown; allowed: caption, phrase")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Int32[Array, "B K L"], phrase_ids: Int32[Array, "B K L"], train: bool
    ) -> Tokens:
        del train  # Nothing here behaves differently in training.
        batch, captions, length = tokens.shape
        tokens = tokens.reshape(-1, length)
        ids = phrase_ids.reshape(-1, length)
        valid = ids > 0
        attend = valid[:, None, :] & valid[:, :, None]
        if self.context == "phrase":
            attend &= ids[:, None, :] == ids[:, :, None]
        # A padding token attends to itself, so that no row of the attention is empty.
        attend |= jnp.eye(length, dtype=bool)

        x = nn.Embed(self.vocabulary, self.width)(tokens)
        for _ in range(self.depth):
            x = Block(self.heads)(x, attend)
        x = nn.LayerNorm()(x)

        member = (ids[:, None, :] == jnp.arange(1, self.phrases + 1)[:, None]).astype(x.dtype)
        count = member.sum(axis=-1, keepdims=True)
        phrases = jnp.einsum("mpl,mle->mpe", member, x) / jnp.maximum(count, 1.0)
        shape = (batch, captions * self.phrases)
        return Tokens(
            phrases.reshape(*shape, self.width),
            (count > 0).reshape(shape),
            (captions, self.phrases),
        )
