"""The outputs of encoders and of heads."""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# On the device, or copied to the host.
AnyArray = Array | np.ndarray


@flax.struct.dataclass
class Tokens:
    """The output of an encoder, before any head.

    Attributes:
      local: one feature for each cell, patch or phrase.
      mask: which of them are valid.
      grid: the extent of the feature map, ``(T', H', W')`` for video, ``(T', F')`` for audio and
        ``(K, P)`` for text; N is its product.
      coarse: the encoder's own feature of a clip, or of each caption, such as a class token; None
        from encoders without one. A space with ``pool="own"`` uses it.
    """

    local: Float[AnyArray, "B N E"]
    mask: Bool[AnyArray, "B N"]
    grid: tuple[int, ...] = flax.struct.field(pytree_node=False)
    coarse: Float[AnyArray, "B *k E"] | None = None

    @classmethod
    def of_map(cls, x: Float[Array, "B *grid E"], mask: Bool[Array, "B"]) -> "Tokens":
        """Tokens of a feature map, one per cell, in float32; ``mask`` marks valid clips."""
        local = x.reshape(x.shape[0], -1, x.shape[-1]).astype(jnp.float32)
        return cls(local, jnp.broadcast_to(mask[:, None], local.shape[:2]), x.shape[1:-1])


@flax.struct.dataclass
class Embeddings:
    """Vectors in a space that modalities share, of unit length unless the config of the space says
    otherwise.

    For video and audio, ``local`` is [B, N, D] and ``coarse`` [B, D]; for text, and for audio
    pooled to time segments, they are [B, K, P, D] and [B, K, D].

    Attributes:
      local: local or phrase embeddings.
      mask: which of them are valid.
      coarse: one embedding per clip or caption; it is valid if any entry of its ``mask`` is.
      gates: logits of learned weights of ``local``, in float32; None in a space without gates.
    """

    local: Float[AnyArray, "B *rest D"]
    mask: Bool[AnyArray, "B *rest"]
    coarse: Float[AnyArray, "B *k D"]
    gates: Float[AnyArray, "B *rest"] | None = None
