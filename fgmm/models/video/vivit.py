"""A video vision transformer with factorised self-attention over tubelets.

Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021 (arXiv 2103.15691), model 3: each block
attends over the patches of a frame, then over the frames at a patch, so there is a token for every
cell of the grid. Positions are fixed, not learned, so any grid will do: sine and cosine in space,
rotary in time. Rotary positions change nothing among identical frames, so a static clip and an
image have the same features.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.patches import draw_kept, kept_only, restored, sincos_positions
from fgmm.models.temporal import repeated
from fgmm.models.transformer import Residual, TransformerEncoder, perceptron, self_attention


def tubelets(
    frames: Float[Array, "B T H W C"], length: int, patch: int
) -> Float[Array, "B t h w E"]:
    """The pixels of each box of ``length`` frames and ``patch`` x ``patch`` pixels, as channels.

    Raises:
      ValueError: frames, height or width are not multiples of the sizes of a box.
    """
    batch, time, height, width, colours = frames.shape
    if time % length or height % patch or width % patch:
        raise ValueError(
            f"frames x height x width = {time} x {height} x {width} must be multiples of "
            f"tubelet={length}, patch={patch} and patch={patch} (or frames 1, for images)"
        )
    t, h, w = time // length, height // patch, width // patch
    x = frames.reshape(batch, t, length, h, patch, w, patch, colours)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, t, h, w, -1)


class Block(nn.Module):
    """Attention over space, attention over time, a perceptron (arXiv 2103.15691, figure 5).

    Attributes:
      heads: attention heads; their number divides the width.
      dropout, stochastic_depth: as in ``Residual``.
      dtype: dtype of the activations.
    """

    heads: int
    dropout: float
    stochastic_depth: float
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T N E"], attend: None, train: bool
    ) -> Float[Array, "B T N E"]:
        del attend  # It takes the arguments of ``transformer.Block``.
        batch, time, cells, width = x.shape
        add = Residual(self.dropout, self.stochastic_depth)
        y = self_attention(x.reshape(batch * time, cells, width), self.heads, self.dtype)
        x = add(x, y.reshape(x.shape), train)
        by_cell = x.swapaxes(1, 2).reshape(batch * cells, time, width)
        y = self_attention(by_cell, self.heads, self.dtype, rotary=True)
        x = add(x, y.reshape(batch, cells, time, width).swapaxes(1, 2), train)
        return add(x, perceptron(x, self.dtype), train)


class Encoder(TransformerEncoder):
    """From frames to a feature per tubelet, ``width`` channels at strides (tubelet, patch, patch).

    Sizes must be multiples of these strides. An image is repeated to fill a tubelet.

    Attributes:
      width, depth, heads: 384, 12, 6 for ViT-S; 768, 12, 12 for ViT-B.
      tubelet, patch: length of a token in frames, and its height and width in pixels.
      drop_token: share of the patches left out in training, the same ones in all frames of a clip;
        their features are masked.
      image_frames: frames to which an image is repeated; 1 for a single tubelet.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    width: int = option(384, low=1)
    depth: int = option(12, low=1)
    heads: int = option(6, low=1)
    tubelet: int = option(2, low=1)
    patch: int = option(16, low=1)
    drop_token: float = option(0.0, low=0, below=1)
    image_frames: int = option(1, low=1)
    rotary: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        length = self.image_frames if self.image_frames > 1 else self.tubelet
        x = tubelets(repeated(frames, length, self.dtype), self.tubelet, self.patch)
        batch, *grid, _ = x.shape
        x = nn.Dense(self.width, dtype=self.dtype, name="embedding")(x)
        positions = sincos_positions((grid[1], grid[2]), self.width)[None, None]
        x = x + jnp.asarray(positions, self.dtype)
        x = x.reshape(batch, grid[0], grid[1] * grid[2], self.width)
        valid = jnp.ones((batch, x.shape[2]), bool)

        drops = train and self.drop_token > 0
        if drops:
            kept = draw_kept(self.make_rng("dropout"), batch, x.shape[2], self.drop_token)
            x = kept_only(x, kept)
        x = self.through_blocks(x, None, train, block=Block)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        if drops:
            x, valid = restored(x, kept, grid[1] * grid[2])

        tokens = Tokens.of_map(x.reshape(batch, *grid, self.width), mask)
        return tokens.replace(mask=tokens.mask & jnp.tile(valid, (1, grid[0])))
