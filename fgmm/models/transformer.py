"""Parts that transformers over phrases, frames, pictures and spectrograms share.

Vaswani et al., "Attention Is All You Need", 2017 (arXiv 1706.03762), with normalisation before each
block.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.layers import BaseEncoder, rematted


def quick_gelu(x: Float[Array, "*rest E"]) -> Float[Array, "*rest E"]:
    """x sigmoid(1.702 x), which OpenAI's CLIP uses instead of GELU (Hendrycks and Gimpel, arXiv
    1606.08415, section 2).
    """
    return x * jax.nn.sigmoid(1.702 * x)


def swiglu(x: Float[Array, "*rest EE"]) -> Float[Array, "*rest E"]:
    """swish(a) b of the halves a and b of the channels (Shazeer, "GLU Variants Improve
    Transformer", arXiv 2002.05202, equation 5, before its last layer).
    """
    gate, value = jnp.split(x, 2, axis=-1)
    return jax.nn.silu(gate) * value


# GELU, two approximations of it, and SwiGLU, which halves the channels.
ACTIVATIONS = {
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": nn.gelu,
    "quick_gelu": quick_gelu,
    "swiglu": swiglu,
}


class TransformerEncoder(BaseEncoder, kw_only=True):
    """The options of transformers. A subclass declares ``width``, ``depth`` and ``heads``.

    Attributes:
      dropout: share of each branch's elements set to 0 in training.
      stochastic_depth: rate of the last block in training; the rates of earlier blocks rise
        linearly from 0.

      rotary: marks encoders with rotary positions, which turn pairs of a head's channels.

    Raises:
      ValueError: ``width`` is not a multiple of ``heads``, or with ``rotary`` of 2 x ``heads``.
    """

    dropout: float = option(0.0, low=0, below=1)
    stochastic_depth: float = option(0.0, low=0, below=1)
    rotary: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        factor, of = (2, "2 x ") if self.rotary else (1, "")
        if self.width % (factor * self.heads):
            raise ValueError(f"width={self.width} must be a multiple of {of}heads={self.heads}")

    def through_blocks(
        self,
        x: Float[Array, "M *L E"],
        attend: Bool[Array, "M L L"] | None,
        train: bool,
        *,
        block: type[nn.Module] | None = None,
        prefix: str = "block",
        **form: Any,
    ) -> Float[Array, "M *L E"]:
        """Applies the blocks ``block_0``, ``block_1``, ..., as layers of this module.

        Args:
          x: a sequence, or what else ``block`` takes.
          attend: a mask of the elements that each element attends to; None for all.
          train: whether dropout and stochastic depth act.
          block: another class of blocks than ``Block``.
          prefix: of the names of blocks.
          form: further options of the blocks.
        """
        for number, rate in enumerate(depth_rates(self.stochastic_depth, self.depth)):
            name = f"{prefix}_{number}"
            x = rematted(block or Block, name, self.remat)(
                heads=self.heads,
                dropout=self.dropout,
                stochastic_depth=rate,
                dtype=self.dtype,
                name=name,
                **form,
            )(x, attend, train)
        return x


class PublishedTransformer(TransformerEncoder, kw_only=True):
    """The options of transformers like those of CLIP and SigLIP: all layers have biases.

    Attributes:
      hidden: width of the hidden layer of a perceptron.
      activation: activation of the hidden layer, one of ``ACTIVATIONS``.
      epsilon: added to the variance in normalisations.
    """

    hidden: int = option(low=1)
    activation: str = option("gelu", choices=tuple(ACTIVATIONS))
    epsilon: float = option(1e-5, above=0)

    def normalised(self, x: Float[Array, "M L E"], name: str) -> Float[Array, "M L E"]:
        """Layer normalisation of ``x``, as a layer ``name`` of this module."""
        return nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name=name)(x)

    def through_blocks(
        self,
        x: Float[Array, "M L E"],
        attend: Bool[Array, "M L L"] | None,
        train: bool,
        **form: Any,
    ) -> Float[Array, "M L E"]:
        """As in ``TransformerEncoder``, with the options of this class."""
        options = {"hidden": self.hidden, "activation": self.activation, "epsilon": self.epsilon}
        return super().through_blocks(x, attend, train, bias=True, **options, **form)


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
    bias: bool = False,
    epsilon: float = 1e-6,
) -> Float[Array, "M L E"]:
    """Layer normalisation and self-attention, as layers of the calling module.

    Args:
      x: a sequence.
      heads: attention heads; their number divides E.
      dtype: dtype of the activations.
      attend: a mask of the elements that each element attends to; None for all.
      rotary: whether queries and keys are rotated by their positions; see ``rotate``.
      bias: whether queries, keys and values have a bias.
      epsilon: added to the variance in the normalisation.
    """
    width = x.shape[-1]
    y = nn.LayerNorm(epsilon=epsilon, dtype=dtype)(x)
    projection = nn.DenseGeneral((3 * heads, width // heads), use_bias=bias, dtype=dtype)
    query, key, value = jnp.split(projection(y), 3, axis=2)
    if rotary:
        query, key = rotate(query), rotate(key)
    mask = None if attend is None else attend[:, None, :, :]
    y = jax.nn.dot_product_attention(query, key, value, mask=mask)
    return nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype)(y)


def perceptron(
    x: Float[Array, "*rest E"],
    dtype: str,
    *,
    hidden: int = 0,
    activation: str = "gelu_tanh",
    epsilon: float = 1e-6,
) -> Float[Array, "*rest E"]:
    """Layer normalisation and two dense layers, as layers of the calling module.

    Args:
      x: features.
      dtype: dtype of the activations.
      hidden: width of the hidden layer after the activation; 0 for four times the width of ``x``.
      activation: activation of the hidden layer, one of ``ACTIVATIONS``.
      epsilon: added to the variance in the normalisation.
    """
    width = x.shape[-1]
    hidden = (hidden or 4 * width) * (2 if activation == "swiglu" else 1)
    y = nn.LayerNorm(epsilon=epsilon, dtype=dtype)(x)
    y = ACTIVATIONS[activation](nn.Dense(hidden, dtype=dtype)(y))
    return nn.Dense(width, dtype=dtype)(y)


class Residual(nn.Module):
    """Adds a branch to the stream, with dropout of its elements. Stochastic depth (Huang et al.,
    arXiv 1603.09382) drops the whole branch for some members of the batch.

    Attributes:
      dropout: share of elements set to 0 in training.
      stochastic_depth: probability that a member of the batch loses the branch in training.
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


class LayerScale(nn.Module):
    """Learned factors of the channels of a branch (Touvron et al., "Going deeper with Image
    Transformers", arXiv 2103.17239, section 2).

    Attributes:
      initial: initial value of all factors.
    """

    initial: float

    @nn.compact
    def __call__(self, x: Float[Array, "*rest E"]) -> Float[Array, "*rest E"]:
        scale = self.param("scale", nn.initializers.constant(self.initial), x.shape[-1:])
        return x * scale.astype(x.dtype)[(None,) * (x.ndim - 1)]


class Block(nn.Module):
    """Self-attention and a perceptron, each with a residual connection.

    Attributes:
      heads: attention heads; their number divides the width.
      rotary: whether queries and keys are rotated by their positions; see ``rotate``.
      dropout, stochastic_depth: as in ``Residual``.
      dtype: dtype of the activations.
      bias, epsilon: as in ``self_attention``.
      hidden, activation: as in ``perceptron``.
      layer_scale: initial value of ``LayerScale`` on both branches; 0 for no scale.
    """

    heads: int
    rotary: bool = False
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    dtype: str = "float32"
    bias: bool = False
    epsilon: float = 1e-6
    hidden: int = 0
    activation: str = "gelu_tanh"
    layer_scale: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "M L E"], attend: Bool[Array, "M L L"] | None, train: bool
    ) -> Float[Array, "M L E"]:
        add = Residual(self.dropout, self.stochastic_depth)
        y = self_attention(
            *(x, self.heads, self.dtype),
            attend=attend,
            rotary=self.rotary,
            bias=self.bias,
            epsilon=self.epsilon,
        )
        x = add(x, self._scaled(y), train)
        form = {"hidden": self.hidden, "activation": self.activation, "epsilon": self.epsilon}
        return add(x, self._scaled(perceptron(x, self.dtype, **form)), train)

    def _scaled(self, branch: Float[Array, "M L E"]) -> Float[Array, "M L E"]:
        return LayerScale(self.layer_scale)(branch) if self.layer_scale else branch


def depth_rates(stochastic_depth: float, depth: int) -> list[float]:
    """The rate of each block: from 0 for the first, linearly, to ``stochastic_depth`` for the last
    (arXiv 1603.09382, section 3).
    """
    return [stochastic_depth * block / max(1, depth - 1) for block in range(depth)]
