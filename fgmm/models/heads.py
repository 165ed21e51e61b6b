"""Heads: they project encoder features to the spaces that modalities share, coarse and local.

A space may be reached through another, as in MMV's "fine and coarse spaces" (Alayrac et al.,
NeurIPS 2020, arXiv 2006.16228, section 3.2, FAC): video and audio are compared in a fine space, and
one projection leads from there to a coarser space with text. Video and audio share this projection,
so sound can be compared with text although no loss compares them. As in the published code
(github.com/google-deepmind/deepmind-research, mmv/models/mm_embeddings.py, ``fac_relu``), the input
of the projection is the fine embedding after a ReLU, before it is scaled to unit length.

Heads have no batch normalisation. The published heads have it after hidden layers and some
projections. Here one projection serves both cells and segments of sound, or both video and sound,
and one set of statistics would not fit both.
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.models.embeddings import Embeddings, Tokens


def normalise(x: Float[Array, "*rest D"]) -> Float[Array, "*rest D"]:
    """Scales vectors to length 1. A zero vector stays zero, with a zero gradient; NaN stays NaN."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    zero = square == 0
    return jnp.where(zero, 0.0, x / jnp.sqrt(jnp.where(zero, 1.0, square)))


def pooled(
    x: Float[Array, "*rest N E"],
    mask: Bool[Array, "*rest N"],
    pool: str,
    gates: Float[Array, "*rest N"] | None = None,
    own: Float[Array, "*rest E"] | None = None,
) -> Float[Array, "*rest E"]:
    """Pools the valid features along N; 0 where there are none.

    Args:
      pool: ``"mean"``, ``"max"``, or ``"gate"`` for a mean with weights softmax(gates) over valid
        features; ``"own"`` takes the encoder's own coarse feature instead.
      gates: logits of the weights, for ``"gate"`` only.
      own: the encoder's coarse feature, for ``"own"`` only.
    """
    if pool == "gate":
        # A masked feature has weight 0, but 0 times NaN is NaN.
        x = jnp.where(mask[..., None], x, 0.0)
        return jnp.sum(x * _shares(gates, mask)[..., None].astype(x.dtype), axis=-2)
    if pool == "mean":
        total = jnp.sum(jnp.where(mask[..., None], x, 0.0), axis=-2)
        return total / jnp.maximum(jnp.sum(mask, axis=-1), 1)[..., None].astype(x.dtype)
    if pool == "max":
        own = jnp.max(x, axis=-2, where=mask[..., None], initial=jnp.finfo(x.dtype).min)
    return jnp.where(jnp.any(mask, axis=-1)[..., None], own, 0.0)


def _shares(gates, mask):
    """softmax over the valid entries of the last axis; 0 where there are none."""
    logits = jnp.where(mask, gates, jnp.finfo(gates.dtype).min / 2)
    return jnp.where(mask, jax.nn.softmax(logits), 0.0)


def segmented(tokens: Tokens, segments: int) -> Tokens:
    """An audio feature map averaged to at most ``segments`` stretches of time.

    Step t of the T' time steps belongs to segment floor(t * segments / T'). The mean is over the
    valid features of a segment; a segment without any is masked.

    Returns:
      Tokens with local [B, segments, E] and grid (1, segments), like one caption of text.
    """
    time, frequency = tokens.grid
    segments = min(segments, time)
    x = jnp.where(tokens.mask[:, :, None], tokens.local, 0)
    x = x.reshape(-1, time, frequency, x.shape[-1]).mean(axis=2)
    owner = jnp.arange(time) * segments // time
    member = owner[None, :] == jnp.arange(segments)[:, None]
    steps = member.sum(axis=1)
    share = member.astype(x.dtype) / steps.astype(x.dtype)[:, None]
    valid = tokens.mask.reshape(-1, time, frequency).sum(axis=2)
    valid = jnp.einsum("pt,bt->bp", member.astype(valid.dtype), valid)
    # The mean over all features, times their number over that of the valid ones: 1 if all are.
    x = jnp.einsum("pt,bte->bpe", share, x)
    x *= (steps[None] * frequency / jnp.maximum(valid, 1)).astype(x.dtype)[:, :, None]
    own = None if tokens.coarse is None else tokens.coarse[:, None]
    return Tokens(x, valid > 0, (1, segments), own)


class Head(nn.Module):
    """The projections to a space: one of local features, and another of pooled features.

    Attributes:
      width: D.
      hidden: width of a hidden layer with ReLU before the projection; 0 for a linear head.
      bias: whether a linear head has a bias; a head with a hidden layer always has biases.
    """

    width: int
    hidden: int = 0
    bias: bool = False

    def setup(self):
        self.local = self._projection()
        self.coarse = self._projection()

    def _projection(self) -> nn.Module:
        if not self.hidden:
            return nn.Dense(self.width, use_bias=self.bias)
        return nn.Sequential([nn.Dense(self.hidden), nn.relu, nn.Dense(self.width)])


class Gate(nn.Module):
    """The logit of a local feature's weight in its clip, from that feature alone.

    The last layer starts at zero, so that at first all features have the same weight. It has no
    bias: a bias would shift all logits of a clip alike and change no weight. After the token
    weights of DRL (Wang et al. 2022, arXiv 2203.07111; github.com/foolwood/DRL).

    Attributes:
      hidden: whether a hidden layer with ReLU, as wide as the features, comes first.
    """

    hidden: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*rest E"]) -> Float[Array, "*rest"]:
        x = x.astype(jnp.float32)
        if self.hidden:
            x = nn.relu(nn.Dense(x.shape[-1], name="hidden_layer")(x))
        logit = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="logit")
        return logit(x)[..., 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Route:
    """The path of features from an encoder to a space: one head, or several with ReLU between them.

    The coarse embedding pools features first, then projects them.

    Attributes:
      heads: the heads, in the order in which features pass them.
      pool: ``"mean"``, ``"max"`` or ``"gate"`` over a clip's or a caption's features; ``"own"``
        takes the encoder's own coarse feature instead.
      unit_length: whether embeddings are scaled to length 1 at the end.
      dtype: dtype of the embeddings; rounding is the last step.
      gate: the gate of the space, for the weights of local embeddings; None for none.
      pool_gate: the gate of the pool ``"gate"``: that of the first space on the path.
    """

    heads: tuple[Head, ...]
    pool: str
    unit_length: bool
    dtype: str = "float32"
    gate: Gate | None = None
    pool_gate: Gate | None = None

    def local(self, x: Float[Array, "*rest E"]) -> Float[Array, "*rest D"]:
        """Features projected one by one, not scaled."""
        return _chained([head.local for head in self.heads], x)

    def coarse(self, x: Float[Array, "*rest E"]) -> Float[Array, "*rest D"]:
        """Pooled features projected, not scaled."""
        return _chained([head.coarse for head in self.heads], x)

    def scaled(self, x: Float[Array, "*rest D"]) -> Float[Array, "*rest D"]:
        """Vectors scaled to unit length if the space has ``unit_length``; otherwise unchanged."""
        return normalise(x) if self.unit_length else x

    def pooled(
        self,
        x: Float[Array, "*rest N E"],
        mask: Bool[Array, "*rest N"],
        own: Float[Array, "*rest E"] | None = None,
    ) -> Float[Array, "*rest E"]:
        """The input of the coarse projection: pooled features, or the encoder's coarse feature
        ``own`` for the pool ``"own"``.
        """
        gates = self.pool_gate(x) if self.pool == "gate" else None
        return pooled(x, mask, self.pool, gates, own)

    def __call__(
        self,
        x: Float[Array, "*rest N E"],
        mask: Bool[Array, "*rest N"],
        own: Float[Array, "*rest E"] | None = None,
    ) -> Embeddings:
        return Embeddings(
            local=self.scaled(self.local(x)).astype(self.dtype),
            mask=mask,
            coarse=self.scaled(self.coarse(self.pooled(x, mask, own))).astype(self.dtype),
            gates=self.gate(x) if self.gate else None,
        )


def _chained(projections: Sequence[Callable[[Array], Array]], x: Array) -> Array:
    first, *others = projections
    x = first(x)
    for projection in others:
        x = projection(nn.relu(x))
    return x
