"""ResNet-18 over log-mel spectrograms (He et al., arXiv 1512.03385 and 1603.05027)."""

from fgmm.config.option import option
from fgmm.models.audio.log_mel_resnet import LogMelResNet


class Encoder(LogMelResNet):
    """From a spectrogram to the feature map of the last stage, 512 channels at strides (32, 32).
    It has the options of ``LogMelResNet``, and blocks ``layer1_0`` to ``layer4_1``.
    """

    blocks: tuple[int, ...] = option((2, 2, 2, 2), low=1)
    bottleneck = False
