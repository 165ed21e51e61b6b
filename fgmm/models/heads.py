"""Heads: encoder features to unit vectors in a shared space, coarse and local."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.models.embeddings import Embeddings, Tokens


def normalise(x: Float[Array, "*rest D"]) -> Float[Array, "*rest D"]:
    """Scales vectors to length 1. A zero vector stays zero, with a zero gradient; NaN stays NaN."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    zero = square == 0
    return jnp.where(zero, 0.0, x / jnp.sqrt(jnp.where(zero, 1.0, square)))


def pooled(
    x: Float[Array, "*rest N E"], mask: Bool[Array, "*rest N"], pool: str
) -> Float[Array, "*rest E"]:
    """The mean or the maximum over valid features; zero where there are none."""
    if pool == "mean":
        total = jnp.sum(jnp.where(mask[..., None], x, 0.0), axis=-2)
        return total / jnp.maximum(jnp.sum(mask, axis=-1), 1)[..., None].astype(x.dtype)
    largest = jnp.max(x, axis=-2, where=mask[..., None], initial=jnp.finfo(x.dtype).min)
    return jnp.where(jnp.any(mask, axis=-1)[..., None], largest, 0.0)


def segmented(tokens: Tokens, segments: int) -> Tokens:
    """An audio feature map averaged to at most ``segments`` stretches of time.

    The T' columns are shared out evenly: column t belongs to segment floor(t * segments / T').

    Returns:
      Tokens with local [B, segments, E] and grid (1, segments), as one caption of text has.
    """
    time, frequency = tokens.grid
    segments = min(segments, time)
    x = tokens.local.reshape(-1, time, frequency, tokens.local.shape[-1]).mean(axis=2)
    owner = jnp.arange(time) * segments // time
    member = (owner[None, :] == jnp.arange(segments)[:, None]).astype(x.dtype)
    x = jnp.einsum("pt,bte->bpe", member / member.sum(axis=1, keepdims=True), x)
    mask = jnp.broadcast_to(jnp.any(tokens.mask, axis=-1)[:, None], x.shape[:2])
    return Tokens(x, mask, (1, segments))


class Head(nn.Module):
    """Projects local features, and their pool, into one space.

    The coarse embedding pools features first, then projects and normalises.

    Attributes:
      width: D.
      hidden: width of a hidden layer with ReLU before the projection; 0 for a linear head.
      pool: ``"mean"`` or ``"max"`` over a clip's or a caption's features.
    """

    width: int
    hidden: int
    pool: str

    def setup(self):
        self.local = self._projection()
        self.coarse = self._projection()

    def _projection(self) -> nn.Module:
        if not self.hidden:
            return nn.Dense(self.width, use_bias=False)
        return nn.Sequential([nn.Dense(self.hidden), nn.relu, nn.Dense(self.width)])

    def __call__(self, x: Float[Array, "*rest N E"], mask: Bool[Array, "*rest N"]) -> Embeddings:
        return Embeddings(
            local=normalise(self.local(x)),
            mask=mask,
            coarse=normalise(self.coarse(pooled(x, mask, self.pool))),
        )
