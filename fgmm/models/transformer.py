"""What transformers over phrases, frames and spectrograms share.

Vaswani et al., "Attention Is All You Need", 2017 (arXiv 1706.03762), with normalisation before each
block.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.layers import BaseEncoder


class TransformerEncoder(BaseEncoder, kw_only=True):
    """The options of transformers. A subclass declares ``width``, ``depth`` and ``heads``.

    Attributes:
      dropout: share of each branch's elements set to 0 in training.
      stochastic_depth: of the last block in training; 0 for the first, linear between.
    """

    dropout: float = option(0.0, low=0, below=1)
    stochastic_depth: float = option(0.0, low=0, below=1)

    def __post_init__(self):
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width} must be a multiple of 2 x heads={self.heads}")


def rotate(x: Float[Array, "M L heads E"]) -> Float[Array, "M L heads E"]:
    """Rotary position embedding, base 10,000 (Su et al., arXiv 2104.09864, equation 34)."""
    length, half = x.shape[1], x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half) / half)
    angle = jnp.arange(length)[None, :, None, None] * frequency[None, None, None, :]
    a, b = x[..., :half], x[..., half:]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


def self_attention(
    x: Float[Array, "M L E"],
    heads: int,
    dtype: str,
    *,
    attend: Bool[Array, "M L L"] | None = None,
    rotary: bool = False,
) -> Float[Array, "M L E"]:
    """Normalisation and self-attention, as layers of the calling module.

    Args:
      x: a sequence.
      heads: they divide E.
      dtype: of the activations.
      attend: which elements an element sees; all if None.
      rotary: whether positions enter by ``rotate``.
    """
    width = x.shape[-1]
    y = nn.LayerNorm(dtype=dtype)(x)
    projection = nn.DenseGeneral((3 * heads, width // heads), use_bias=False, dtype=dtype)
    query, key, value = jnp.split(projection(y), 3, axis=2)
    if rotary:
        query, key = rotate(query), rotate(key)
    mask = None if attend is None else attend[:, None, :, :]
    y = jax.nn.dot_product_attention(query, key, value, mask=mask)
    return nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype)(y)


def perceptron(x: Float[Array, "*rest E"], dtype: str) -> Float[Array, "*rest E"]:
    """Normalisation and two layers, four times as wide between, as layers of the calling module."""
    width = x.shape[-1]
    y = nn.Dense(4 * width, dtype=dtype)(nn.LayerNorm(dtype=dtype)(x))
    return nn.Dense(width, dtype=dtype)(nn.gelu(y))


class Residual(nn.Module):
    """Adds a branch to the stream: with dropout of its elements and, by stochastic depth (Huang et
    al., arXiv 1603.09382), without the whole branch for some members of the batch.

    Attributes:
      dropout: share of elements set to 0 in training.
      stochastic_depth: share of the batch that goes without the branch in training.
    """

    dropout: float
    stochastic_depth: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *rest E"], branch: Float[Array, "B *rest E"], train: bool
    ) -> Float[Array, "B *rest E"]:
        branch = nn.Dropout(self.dropout, deterministic=not train)(branch)
        every = tuple(range(1, x.ndim))
        return x + nn.Dropout(self.stochastic_depth, every, deterministic=not train)(branch)


class Block(nn.Module):
    """Self-attention and a perceptron, each with a residual connection.

    Attributes:
      heads: attention heads; they divide the width.
      rotary: whether positions enter by ``rotate``.
      dropout, stochastic_depth: of ``Residual``.
      dtype: of the activations.
    """

    heads: int
    rotary: bool = False
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "M L E"], attend: Bool[Array, "M L L"] | None, train: bool
    ) -> Float[Array, "M L E"]:
        add = Residual(self.dropout, self.stochastic_depth)
        y = self_attention(x, self.heads, self.dtype, attend=attend, rotary=self.rotary)
        x = add(x, y, train)
        return add(x, perceptron(x, self.dtype), train)


def depth_rates(stochastic_depth: float, depth: int) -> list[float]:
    """The rate of each block: from 0 for the first, linearly, to ``stochastic_depth`` for the last
    (arXiv 1603.09382, section 3).
    """
    return [stochastic_depth * block / max(1, depth - 1) for block in range(depth)]
