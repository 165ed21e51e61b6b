"""Pooling of tokens to phrases."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from fgmm.models.embeddings import Tokens


def phrase_members(phrase_ids: Int32[Array, "B K L"], phrases: int) -> Bool[Array, "M P L"]:
    """The mask of the tokens of each phrase, for M = B·K captions."""
    ids = phrase_ids.reshape(-1, 1, phrase_ids.shape[-1])
    return ids == jnp.arange(1, phrases + 1)[None, :, None]


def phrase_means(
    x: Float[Array, "M L E"], phrase_ids: Int32[Array, "B K L"], phrases: int
) -> tuple[Float[Array, "M P E"], Bool[Array, "M P"]]:
    """The mean over the tokens of each phrase, 0 for a phrase without tokens; and the mask of
    phrases that have tokens.
    """
    members = phrase_members(phrase_ids, phrases)
    return means(x, members), jnp.any(members, axis=-1)


def means(x: Float[Array, "M L E"], members: Bool[Array, "M P L"]) -> Float[Array, "M P E"]:
    """The mean over the members of each phrase, 0 for a phrase without members."""
    member = members.astype(jnp.float32)
    count = jnp.maximum(member.sum(axis=-1, keepdims=True), 1.0)
    return jnp.einsum("mpl,mle->mpe", member, x) / count


def of_captions(
    x: Float[Array, "M P E"],
    mask: Bool[Array, "M P"],
    captions: int,
    coarse: Float[Array, "M E"] | None = None,
) -> Tokens:
    """The output of a text encoder, in float32, from the phrases of M = B·K captions and, if the
    encoder has one, its coarse feature of each caption.
    """
    phrases, width = x.shape[1:]
    if coarse is not None:
        coarse = coarse.reshape(-1, captions, width).astype(jnp.float32)
    return Tokens(
        x.reshape(-1, captions * phrases, width).astype(jnp.float32),
        mask.reshape(-1, captions * phrases),
        (captions, phrases),
        coarse,
    )
