"""S3D-G: separable 3-D inception with self-gating.

Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018 (arXiv 1712.04851), in the form
that Miech et al. trained on HowTo100M (MIL-NCE, arXiv 1912.06430; github.com/antoine77340/
S3D_HowTo100M). Submodules are named as in their state dict: ``mixed_3b.conv_b1_b.conv2.weight`` is
the parameter ``mixed_3b/conv_b1_b/conv2/kernel``. The axes of a kernel are (H, W, T · in, out): T
and in are one axis. If H = W = 1, these two axes are dropped.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import NORMS, max_pool, rematted
from fgmm.models.temporal import ConvolutionalEncoder, padding_of, repeated, shifted
from fgmm.models.video.vivit import tubelets

# Channels of each mixed block: b0, b1_a, b1_b, b2_a, b2_b, b3_b.
MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
# The max-pool before a block: kernel and stride over (T, H, W).
_POOLS = {
    "mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def space_to_depth(frames: Float[Array, "B T H W E"]) -> Float[Array, "B t h w F"]:
    """Blocks of 2 x 2 x 2 pixels as channels, in the order (t, h, w, colour).

    Raises:
      ValueError: a size is odd.
    """
    time, height, width = frames.shape[1:4]
    if time % 2 or height % 2 or width % 2:
        raise ValueError(
            f"frames x height x width = {time} x {height} x {width} must all be even for "
            "stem='space_to_depth' (or frames 1, for images); stem='7x7' takes any"
        )
    return tubelets(frames, 2, 2)


def pool(
    x: Float[Array, "B T H W E"], kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> Float[Array, "B t h w E"]:
    """Max-pool over (T, H, W). Padding is (kernel - stride) // 2 at the start of an axis, and at
    its end as much as the last window needs.

    The published network pads with zeros. Its inputs are never negative, so the result is the same.
    """
    for axis, (size, step) in enumerate(zip(kernel, stride, strict=True), start=1):
        if size > 1:
            x = max_pool(x, axis, size, step, low=(size - step) // 2)
    return x


class SelfGating(nn.Module):
    """Multiplies each channel by a sigmoid of the clip's mean features, after a dense layer (arXiv
    1712.04851, section 4.4).
    """

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W E"]) -> Float[Array, "B T H W E"]:
        mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
        return x * nn.sigmoid(nn.Dense(x.shape[-1], dtype=self.dtype, name="fc")(mean))


class SeparableConv(nn.Module):
    """Convolutions, each normalised and followed by ReLU: if ``separable``, a spatial and a
    temporal one, otherwise one over space and time.

    Attributes:
      width: output channels.
      kernel, stride: over (T, H, W).
      separable: whether the kernel is split.
      padding: padding of time, ``"zeros"`` or ``"edge"``.
      norm: a name in ``fgmm.models.layers.NORMS``.
      dtype: dtype of the activations.
    """

    width: int
    kernel: tuple[int, int, int]
    padding: str
    norm: str
    dtype: str
    stride: tuple[int, int, int] = (1, 1, 1)
    separable: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B t h w F"]:
        time, *space = self.kernel
        if time > 1 and not self.separable:
            x = shifted(x, time, self.stride[0], self.padding)
        if max(space) > 1:
            # An even kernel is centred as with "SAME": less padding at the start than at the end.
            around = [((size - 1) // 2, size // 2) for size in space]
            conv = nn.Conv(
                self.width,
                space,
                self.stride[1:],
                around,
                use_bias=False,
                dtype=self.dtype,
                name="conv1",
            )
        else:
            conv = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="conv1")
        norm = NORMS[self.norm]
        x = nn.relu(norm(dtype=self.dtype, name="bn1")(conv(x), mask, train))
        if self.separable:
            x = shifted(x, time, self.stride[0], self.padding)
            x = nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="conv2")(x)
            x = nn.relu(norm(dtype=self.dtype, name="bn2")(x, mask, train))
        return x


class Mixed(nn.Module):
    """An inception block of four branches.

    Attributes:
      widths: channels as in ``MIXED``.
      gated: whether every branch ends with ``SelfGating``.
      padding, norm, dtype: as in ``SeparableConv``.
    """

    widths: tuple[int, int, int, int, int, int]
    gated: bool
    padding: str
    norm: str
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T H W E"], mask: Bool[Array, "B"], train: bool
    ) -> Float[Array, "B T H W F"]:
        def conv(x, name, width, kernel=(1, 1, 1)):
            options = {"padding": self.padding, "norm": self.norm, "dtype": self.dtype}
            layer = SeparableConv(width, kernel, separable=kernel[0] > 1, name=name, **options)
            return layer(x, mask, train)

        b0, b1_a, b1_b, b2_a, b2_b, b3_b = self.widths
        branches = [
            conv(x, "conv_b0", b0),
            conv(conv(x, "conv_b1_a", b1_a), "conv_b1_b", b1_b, (3, 3, 3)),
            conv(conv(x, "conv_b2_a", b2_a), "conv_b2_b", b2_b, (3, 3, 3)),
            conv(pool(x, (3, 3, 3), (1, 1, 1)), "conv_b3_b", b3_b),
        ]
        if self.gated:
            branches = [
                SelfGating(self.dtype, name=f"gating_b{i}")(branch)
                for i, branch in enumerate(branches)
            ]
        return jnp.concatenate(branches, axis=-1)


class Encoder(ConvolutionalEncoder):
    """From frames to the last mixed block's feature map, 1,024 channels at strides (8, 32, 32).

    Any size will do for the stem ``"7x7"``; ``"space_to_depth"`` needs even sizes. Sizes are
    rounded up at each stride, so a clip shorter than a stride gives one cell.

    Attributes:
      stem: ``"space_to_depth"``, 2x4x4 over blocks of 2x2x2 pixels, or ``"7x7"``, 3x7x7.
      width_multiplier: factor of all numbers of channels, which are rounded to multiples of 8.
      final_endpoint: the last block, a key of ``MIXED``; strides are (4, 16, 16) up to
        ``mixed_4f`` and (2, 8, 8) up to ``mixed_3c``.
      gated: whether there is self-gating (``SelfGating``).
      norm: ``"batch"`` or ``"group"`` normalisation.
      temporal_padding, image_frames, dtype: as in ``ConvolutionalEncoder``.
      remat: rules on the blocks named as in ``MIXED``; see ``fgmm.models.layers.rematted``.
    """

    stem: str = option("space_to_depth", choices=("space_to_depth", "7x7"))
    width_multiplier: float = option(1.0, above=0)
    final_endpoint: str = option("mixed_5c", choices=tuple(MIXED))
    gated: bool = True
    norm: str = option("batch", choices=tuple(NORMS))

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T H W 3"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        x = repeated(frames, self.image_frames, self.dtype)
        options = {
            "padding": padding_of(x.shape[1], self.temporal_padding),
            "norm": self.norm,
            "dtype": self.dtype,
        }
        if self.stem == "space_to_depth":
            x = space_to_depth(repeated(x, 2, self.dtype))
            conv1 = SeparableConv(self._scaled(64), (2, 4, 4), name="conv1", **options)
        else:
            conv1 = SeparableConv(
                self._scaled(64), (3, 7, 7), stride=(2, 2, 2), name="conv1", **options
            )
        x = pool(conv1(x, mask, train), (1, 3, 3), (1, 2, 2))
        x = SeparableConv(self._scaled(64), (1, 1, 1), name="conv_2b", **options)(x, mask, train)
        x = SeparableConv(self._scaled(192), (3, 3, 3), separable=True, name="conv_2c", **options)(
            x, mask, train
        )
        if self.gated:
            x = SelfGating(self.dtype, name="gating")(x)
        for name, channels in MIXED.items():
            if name in _POOLS:
                x = pool(x, *_POOLS[name])
            widths = tuple(self._scaled(channel) for channel in channels)
            block = rematted(Mixed, name, self.remat)
            x = block(widths, self.gated, name=name, **options)(x, mask, train)
            if name == self.final_endpoint:
                break
        return Tokens.of_map(x, mask)

    def _scaled(self, channels: int) -> int:
        return max(8, round(self.width_multiplier * channels / 8) * 8)
