"""A small transformer over the features of a clip's frames.

After ``seqTransf`` of CLIP4Clip (Luo et al., arXiv 2104.08860, section 3.3; github.com/ArrowLuo/
CLIP4Clip, modules/modeling.py): learned positions of frames, blocks, and a residual connection
around all of them. In CLIP4Clip it follows the projection, and its blocks and positions start as
copies of CLIP's text tower, so zero-shot scores differ from those of the mean over frames. Here it
precedes the projection, and the residual branch starts at zero, so these scores are equal.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from fgmm.models.transformer import Block

# The most frames, as in CLIP4Clip: the length of CLIP's captions.
POSITIONS = 77


class FrameTransformer(nn.Module):
    """Lets the features of a clip's frames depend on each other and on their order. As in CLIP4Clip
    nothing is dropped in training.

    Attributes:
      depth: number of blocks; CLIP4Clip has 4.
      heads, hidden, activation, epsilon, dtype: as in ``PublishedTransformer``.
    """

    depth: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        """Raises ValueError for more than ``POSITIONS`` frames."""
        frames, width = x.shape[1:]
        if frames > POSITIONS:
            raise ValueError(
                f"temporal_depth={self.depth} has positions for {POSITIONS} frames, not {frames}; "
                "temporal_depth=0 takes any number"
            )
        normal = nn.initializers.normal(width**-0.5)
        y = x + self.param("positions", normal, (POSITIONS, width))[None, :frames]
        for number in range(self.depth):
            y = Block(
                heads=self.heads,
                dtype=self.dtype,
                hidden=self.hidden,
                bias=True,
                activation=self.activation,
                epsilon=self.epsilon,
                name=f"block_{number}",
            )(y, None, False)
        zeros = nn.initializers.zeros
        norm = nn.LayerNorm(epsilon=self.epsilon, scale_init=zeros, dtype=self.dtype, name="norm")
        return x + norm(y).astype(x.dtype)
