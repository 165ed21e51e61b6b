"""A transformer over patches of log-mel spectrograms.

Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021 (arXiv 2104.01778), with fixed
sine and cosine positions, so that any length will do, and without class tokens: heads pool the
patches. Dropping patches in training follows Koutini et al., "Efficient Training of Audio
Transformers with Patchout", 2022 (arXiv 2110.05069, unstructured form).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import rematted
from fgmm.models.patches import draw_kept, kept_only, restored, sincos_positions
from fgmm.models.transformer import Block, TransformerEncoder, depth_rates


class Encoder(TransformerEncoder):
    """A spectrogram to one feature a patch.

    Patches start every ``stride``; what remains at the end of either axis is ignored.

    Attributes:
      width, depth, heads: 384, 12, 6 for ViT-S, 768, 12, 12 for ViT-B, which AST has.
      patch, stride: of the patches in (time, frequency); they overlap where stride < patch.
      drop_token: share of the patches left out in training; their features are masked.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    width: int = option(768, low=1)
    depth: int = option(12, low=1)
    heads: int = option(12, low=1)
    patch: tuple[int, int] = option((16, 16), low=1)
    stride: tuple[int, int] = option((10, 10), low=1)
    drop_token: float = option(0.0, low=0, below=1)

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "B T F"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        batch, time, bands = log_mel.shape
        if time < self.patch[0] or bands < self.patch[1]:
            raise ValueError(
                f"the spectrogram's steps x bands = {time} x {bands} must be at least "
                f"patch={self.patch[0]} x {self.patch[1]}; give longer audio, a shorter mel_hop or "
                "more mel_bands"
            )
        x = nn.Conv(
            self.width, self.patch, self.stride, "VALID", dtype=self.dtype, name="embedding"
        )(log_mel[..., None])
        grid = (x.shape[1], x.shape[2])
        cells = grid[0] * grid[1]
        x = x + jnp.asarray(sincos_positions(grid, self.width), self.dtype)[None]
        x = x.reshape(batch, cells, self.width)
        valid = jnp.ones((batch, cells), bool)

        drops = train and self.drop_token > 0
        if drops:
            kept = draw_kept(self.make_rng("dropout"), batch, cells, self.drop_token)
            x = kept_only(x[:, None], kept)[:, 0]
        for number, rate in enumerate(depth_rates(self.stochastic_depth, self.depth)):
            name = f"block_{number}"
            block = rematted(Block, name, self.remat)
            x = block(
                heads=self.heads,
                dropout=self.dropout,
                stochastic_depth=rate,
                dtype=self.dtype,
                name=name,
            )(x, None, train)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        if drops:
            x, valid = restored(x[:, None], kept, cells)
        tokens = Tokens.of_map(x.reshape(batch, *grid, self.width), mask)
        return tokens.replace(mask=tokens.mask & valid)
