"""A small residual network over log-mel spectrograms (He et al., CVPR 2016, arXiv 1512.03385)."""

import itertools

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from fgmm.config.option import option
from fgmm.models.embeddings import Tokens
from fgmm.models.layers import BaseEncoder, ConvBlock2D, rematted


class Encoder(BaseEncoder):
    """From a spectrogram to a feature map of ``widths[-1]`` channels.

    A stem of one strided convolution, then one residual block for each width. Every block after the
    first halves time and frequency.

    Attributes:
      widths: channels of each stage.
      stem_stride: stride of the stem in (time, frequency); its kernel is twice that, plus one.
      dtype: dtype of the activations.
      remat: rules on the convolutions ``ConvBlock2D_0``, the stem, ``ConvBlock2D_1``, ...; see
        ``fgmm.models.layers.rematted``.
    """

    widths: tuple[int, ...] = option((32, 64, 128), low=1)
    stem_stride: tuple[int, int] = option((2, 2), low=1)

    @nn.compact
    def __call__(
        self, log_mel: Float[Array, "B T F"], mask: Bool[Array, "B"], train: bool
    ) -> Tokens:
        kernel = (2 * self.stem_stride[0] + 1, 2 * self.stem_stride[1] + 1)
        names = map("ConvBlock2D_{}".format, itertools.count())

        def block(*sizes, **options):
            name = next(names)
            made = rematted(ConvBlock2D, name, self.remat)
            return made(*sizes, dtype=self.dtype, name=name, **options)

        x = block(self.widths[0], kernel, self.stem_stride)(log_mel[..., None], mask, train)
        for stage, width in enumerate(self.widths):
            stride = (1, 1) if stage == 0 else (2, 2)
            y = block(width, stride=stride)(x, mask, train)
            y = block(width, activate=False)(y, mask, train)
            if stage > 0:
                x = block(width, (1, 1), stride, activate=False)(x, mask, train)
            x = nn.relu(x + y)
        return Tokens.of_map(x, mask)
