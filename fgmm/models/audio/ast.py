"""A transformer over patches of log-mel spectrograms.

Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021 (arXiv 2104.01778). By default
positions are fixed, sine and cosine, so that any length will do, and there are no class tokens:
heads pool the patches. With learned positions and two tokens it is the published network, whose
weights ``python -m fgmm.convert`` converts. Dropping patches in training follows Koutini et al.,
"Efficient Training of Audio Transformers with Patchout", 2022 (arXiv 2110.05069, unstructured
form).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.patches import (
    draw_kept,
    interpolation_note,
    kept_only,
    resized_positions,
    restored,
    sincos_positions,
)
from fgmm.models.transformer import ACTIVATIONS, TransformerEncoder


class Encoder(TransformerEncoder):
    """From a spectrogram to one feature per patch.

    Patches start every ``stride``; a remainder at the end of an axis is ignored.

    Attributes:
      width, depth, heads: 384, 12, 6 for ViT-S; 768, 12, 12 for ViT-B, as in AST.
      patch, stride: size of the patches and distance between them, in (time, frequency). Patches
        overlap if stride < patch.
      positions: grid (time, frequency) of learned positions, which are interpolated to another
        grid; empty for fixed positions.
      tokens: number of learned tokens beside the patches. Their mean is the coarse feature. AST has
        2, for the class and for distillation.
      hidden: width of the hidden layer of a perceptron; 0 for four times ``width``.
      activation: activation of the hidden layer, one of ``ACTIVATIONS``.
      bias: whether queries, keys and values have a bias.
      epsilon: added to the variance in normalisations.
      drop_token: share of the patches left out in training; their features are masked.
      dropout, stochastic_depth, dtype: as in ``TransformerEncoder``.
      remat: rules on the blocks ``block_0``, ``block_1``, ...; see
        ``fgmm.models.layers.rematted``.

    Raises:
      ValueError: ``positions`` are neither empty nor two numbers of at least 1; or, when it is
        called, the spectrogram is smaller than a patch.
    """

    width: int = option(768, low=1)
    depth: int = option(12, low=1)
    heads: int = option(12, low=1)
    patch: tuple[int, int] = option((16, 16), low=1)
    stride: tuple[int, int] = option((10, 10), low=1)
    positions: tuple[int, ...] = ()
    tokens: int = option(0, low=0)
    hidden: int = option(0, low=0)
    activation: str = option("gelu_tanh", choices=tuple(ACTIVATIONS))
    bias: bool = False
    epsilon: float = option(1e-6, above=0)
    drop_token: float = option(0.0, low=0, below=1)

    def __post_init__(self):
        super().__post_init__()
        if len(self.positions) not in (0, 2) or min(self.positions, default=1) < 1:
            raise ValueError(
                f"positions={self.positions} must be empty or two numbers of at least 1"
            )

    @property
    def gives_coarse(self) -> bool:
        """Whether the encoder has a coarse feature of its own."""
        return self.tokens > 0

    def grid(self, log_mel: tuple[int, ...]) -> tuple[int, int]:
        """The number of patches in time and frequency, for a spectrogram of this shape [B,T,F]."""
        time, frequency = (
            (size - patch) // stride + 1
            for size, patch, stride in zip(log_mel[1:], self.patch, self.stride, strict=True)
        )
        return time, frequency

    def note(self, log_mel: tuple[int, ...]) -> str:
        """A note for the user about spectrograms of this shape [B,T,F]; often empty."""
        return interpolation_note(self.positions, self.grid(log_mel)) if self.positions else ""

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
        grid = self.grid(log_mel.shape)
        cells = grid[0] * grid[1]
        positions, first = self._learned(grid)
        x = (x + positions.astype(self.dtype)[None]).reshape(batch, cells, self.width)
        valid = jnp.ones((batch, cells), bool)

        drops = train and self.drop_token > 0
        if drops:
            kept = draw_kept(self.make_rng("dropout"), batch, cells, self.drop_token)
            x = kept_only(x[:, None], kept)[:, 0]
        first = jnp.broadcast_to(first, (batch, *first.shape)).astype(x.dtype)
        x = self.through_blocks(
            jnp.concatenate([first, x], axis=1),
            None,
            train,
            hidden=self.hidden,
            activation=self.activation,
            bias=self.bias,
            epsilon=self.epsilon,
        )
        x = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm")(x)
        first, x = x[:, : self.tokens], x[:, self.tokens :]
        if drops:
            x, valid = restored(x[:, None], kept, cells)
        found = Tokens.of_map(x.reshape(batch, *grid, self.width), mask)
        coarse = first.astype(jnp.float32).mean(axis=1) if self.tokens else None
        return found.replace(mask=found.mask & valid, coarse=coarse)

    def _learned(
        self, grid: tuple[int, int]
    ) -> tuple[Float[Array, "time frequency E"], Float[Array, "tokens E"]]:
        """The positions of patches, and the tokens, to which learned positions are added."""
        normal = nn.initializers.normal(0.02)
        first = jnp.zeros((0, self.width))
        if self.tokens:
            first = self.param("tokens", normal, (self.tokens, self.width))
        if not self.positions:
            return jnp.asarray(sincos_positions(grid, self.width)), first
        time, frequency = self.positions
        shape = (self.tokens + time * frequency, self.width)
        # As published: tokens, then patches band by band.
        table = self.param("positions", normal, shape)
        learned = table[self.tokens :].reshape(frequency, time, -1).swapaxes(0, 1)
        return resized_positions(learned, grid), first + table[: self.tokens]
