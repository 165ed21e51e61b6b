"""What encoders and heads hand to each other and to a loss."""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# On the device, or brought to the host.
AnyArray = Array | np.ndarray


@flax.struct.dataclass
class Tokens:
    """The output of an encoder, before any head.

    Attributes:
      local: one feature for each cell, patch or phrase.
      mask: which of them are valid.
      grid: extent of the feature map, ``(T', H', W')`` for video, ``(T', F')`` for audio and
        ``(K, P)`` for text; N is its product.
      coarse: the encoder's own feature of a clip, or of each caption, such as that of a class
        token; None from encoders without one. A space takes it with ``pool="own"``.
    """

    local: Float[AnyArray, "B N E"]
    mask: Bool[AnyArray, "B N"]
    grid: tuple[int, ...] = flax.struct.field(pytree_node=False)
    coarse: Float[AnyArray, "B *k E"] | None = None

    @classmethod
    def of_map(cls, x: Float[Array, "B *grid E"], mask: Bool[Array, "B"]) -> "Tokens":
        """A feature map, cell by cell, in float32; ``mask`` says which clips are valid."""
        local = x.reshape(x.shape[0], -1, x.shape[-1]).astype(jnp.float32)
        return cls(local, jnp.broadcast_to(mask[:, None], local.shape[:2]), x.shape[1:-1])


@flax.struct.dataclass
class Embeddings:
    """Vectors in a space shared with other modalities, of unit length unless the config has others.

    For video and audio the axes are [B, N, D] and [B, D]; for text, and for audio pooled to time
    segments, they are [B, K, P, D] and [B, K, D].

    Attributes:
      local: local or phrase embeddings.
      mask: which of them are valid.
      coarse: one embedding a clip or a caption; it is valid where any of its ``mask`` is.
      gates: logits of learned weights of ``local``, in float32; None in a space without gates.
    """

    local: Float[AnyArray, "B *rest D"]
    mask: Bool[AnyArray, "B *rest"]
    coarse: Float[AnyArray, "B *k D"]
    gates: Float[AnyArray, "B *rest"] | None = None
