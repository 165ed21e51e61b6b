"""Spectrograms of sound on the mel scale, computed on the device.

There are two filterbanks. ``"htk"`` is the plain one: a periodic Hann window, and triangles of
height 1 whose sides are linear in Hz. ``"kaldi"`` is that of Kaldi (Povey et al., "The Kaldi
Speech Recognition Toolkit", 2011) as ``torchaudio.compliance.kaldi.fbank`` has it with a Hann
window and without dither; AST was trained with it.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

FILTERBANKS = ("htk", "kaldi")
# Where the first filter begins, in Hz.
LOWEST = {"htk": 0.0, "kaldi": 20.0}
_PREEMPHASIS = 0.97
# Kaldi's least power: the spacing of float32 at 1.
_FLOOR = float(np.finfo(np.float32).eps)


def mel(hertz: Real[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"] | float:
    """The HTK mel scale, m = 2595 log10(1 + f / 700); Kaldi's is the same but for a factor."""
    return 2595 * np.log10(1 + hertz / 700)


def mel_filters(
    bands: int, window: int, rate: int, filterbank: str = "htk"
) -> Float[np.ndarray, "frequencies F"]:
    """Triangular filters at equal distances on the mel scale up to half the rate, each of height 1.

    Args:
      bands: F.
      window: samples of which the spectrum is taken.
      rate: in Hz.
      filterbank: sides are linear in Hz for ``"htk"``, in mel for ``"kaldi"``.
    """
    places = np.fft.rfftfreq(window, 1 / rate)
    edges = np.linspace(mel(LOWEST[filterbank]), mel(rate / 2), bands + 2)
    if filterbank == "kaldi":
        places = mel(places)
    else:
        edges = 700 * (10 ** (edges / 2595) - 1)
    rising = (places[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(
    audio: Float[Array, "B S"],
    *,
    rate: int,
    window: int,
    hop: int,
    bands: int,
    filterbank: str = "htk",
) -> Float[Array, "B T F"]:
    """The natural logarithm of the power in each band of each window.

    Args:
      audio: samples in [-1, 1].
      rate: in Hz.
      window, hop: in samples; T = 1 + (S - window) // hop.
      bands: F.
      filterbank: one of ``FILTERBANKS``.
    """
    starts = np.arange(0, audio.shape[1] - window + 1, hop)
    frames = audio[:, starts[:, None] + np.arange(window)]
    of_kaldi = filterbank == "kaldi"
    # Kaldi's window is symmetric, and padded with zeros to a power of two for its spectrum.
    period, length = (window - 1, 1 << (window - 1).bit_length()) if of_kaldi else (window, window)
    if of_kaldi:
        frames = frames - frames.mean(axis=-1, keepdims=True)
        before = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
        frames = frames - _PREEMPHASIS * before
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / period)
    spectrum = jnp.fft.rfft(frames * hann.astype(np.float32)[None, None], n=length)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    power = power @ mel_filters(bands, length, rate, filterbank)
    return jnp.log(jnp.maximum(power, _FLOOR) if of_kaldi else power + 1e-4)
