"""From tokens to phrases."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from fgmm.models.embeddings import Tokens


def phrase_members(phrase_ids: Int32[Array, "B K L"], phrases: int) -> Bool[Array, "M P L"]:
    """Which tokens belong to which phrase of a caption; M = B·K captions."""
    ids = phrase_ids.reshape(-1, 1, phrase_ids.shape[-1])
    return ids == jnp.arange(1, phrases + 1)[None, :, None]


def of_captions(x: Float[Array, "M P E"], mask: Bool[Array, "M P"], captions: int) -> Tokens:
    """Phrases of B·K captions as the output of a text encoder, in float32."""
    phrases = x.shape[1]
    return Tokens(
        x.reshape(-1, captions * phrases, x.shape[-1]).astype(jnp.float32),
        mask.reshape(-1, captions * phrases),
        (captions, phrases),
    )
