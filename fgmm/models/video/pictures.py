"""The base class of transformers over the single frames of a clip, with learned positions."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.patches import interpolation_note, resized_positions
from fgmm.models.transformer import PublishedTransformer
from fgmm.models.video.frame_transformer import FrameTransformer


class PictureTransformer(PublishedTransformer, kw_only=True):
    """The options of transformers over the single frames of a clip: T frames give T x H' x W' local
    features.

    Height and width must be multiples of ``patch``. If the grid of patches differs from
    ``positions``, the learned positions are interpolated.

    Attributes:
      patch: height and width of a patch in pixels.
      positions: rows and columns of the learned positions.
      temporal_depth: number of blocks of a transformer over the coarse features of frames, before
        their mean becomes that of the clip; 0 for no such transformer. It ignores ``dropout``,
        ``stochastic_depth`` and ``remat``. See ``FrameTransformer``.
      gives_coarse: marks encoders with a coarse feature of their own.
    """

    patch: int = option(low=1)
    positions: tuple[int, int] = option(low=1)
    temporal_depth: int = option(0, low=0)
    gives_coarse: ClassVar[bool] = True

    def note(self, frames: tuple[int, ...]) -> str:
        """A note for the user about clips of this shape [B,T,H,W,3]; often empty."""
        grid = (frames[2] // self.patch, frames[3] // self.patch)
        return interpolation_note(self.positions, grid)

    def patches(
        self, frames: Float[Array, "B T H W 3"], bias: bool
    ) -> tuple[Float[Array, "M N E"], tuple[int, int]]:
        """The embedded patches of M = B·T pictures, and their grid, as a layer of this module.

        Raises:
          ValueError: height or width is not a multiple of ``patch``.
        """
        height, width = frames.shape[2:4]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"height x width = {height} x {width} must be multiples of patch={self.patch}"
            )
        size = (self.patch, self.patch)
        x = nn.Conv(
            self.width, size, size, "VALID", use_bias=bias, dtype=self.dtype, name="embedding"
        )(frames.reshape(-1, height, width, 3))
        return x.reshape(x.shape[0], -1, self.width), (x.shape[1], x.shape[2])

    def placed(
        self,
        x: Float[Array, "M N E"],
        grid: tuple[int, int],
        table: Float[Array, "cells E"],
        antialias: bool = False,
    ) -> Float[Array, "M N E"]:
        """Patches with their positions added; ``antialias`` as in ``resized_positions``."""
        learned = resized_positions(table.reshape(*self.positions, -1), grid, antialias)
        return x + learned.reshape(1, -1, self.width).astype(x.dtype)

    def with_class_token(
        self,
        x: Float[Array, "M N E"],
        grid: tuple[int, int],
        normal: nn.initializers.Initializer,
        *,
        registers: int = 0,
        antialias: bool = False,
    ) -> Float[Array, "M L E"]:
        """A class token and registers, then patches with their positions added, as layers of this
        module. The class token has a position of its own, registers have none.

        Args:
          x, grid: as from ``patches``.
          normal: initialises tokens and positions.
          registers: number of learned tokens beside the class token.
          antialias: as in ``resized_positions``.
        """
        cells = self.positions[0] * self.positions[1]
        first = self.param("class_token", normal, (self.width,))[None]
        table = self.param("positions", normal, (1 + cells, self.width))
        first = first + table[:1]
        if registers:
            others = self.param("registers", normal, (registers, self.width))
            first = jnp.concatenate([first, others])
        x = self.placed(x, grid, table[1:], antialias)
        first = jnp.broadcast_to(first, (x.shape[0], *first.shape)).astype(x.dtype)
        return jnp.concatenate([first, x], axis=1)

    def of_clips(
        self,
        local: Float[Array, "M N E"],
        coarse: Float[Array, "M E"],
        grid: tuple[int, int],
        mask: Bool[Array, "B"],
    ) -> Tokens:
        """The output of the encoder for B clips, from features of M = B·T pictures. The coarse
        feature is the mean over frames, in float32.

        Raises:
          ValueError: there are more frames than ``FrameTransformer`` has positions for.
        """
        clips = mask.shape[0]
        tokens = Tokens.of_map(local.reshape(clips, -1, *grid, self.width), mask)
        frames = coarse.astype(jnp.float32).reshape(clips, -1, self.width)
        if self.temporal_depth:
            frames = FrameTransformer(
                depth=self.temporal_depth,
                heads=self.heads,
                hidden=self.hidden,
                activation=self.activation,
                epsilon=self.epsilon,
                dtype=self.dtype,
                name="temporal",
            )(frames)
        return tokens.replace(coarse=frames.mean(axis=1))
