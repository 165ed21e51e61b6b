"""Makes ``log_mel_reference.npz`` beside it; run by hand, in an environment with librosa 0.11::

    python tests/data/log_mel_reference.py

librosa's mel spectrograms of a sound that is a formula, in float64.
"""

import pathlib

import numpy as np

PATH = pathlib.Path(__file__).with_suffix(".npz")
# Rate in Hz, window and hop in samples, bands: the defaults, and those of AST.
CASES = {"defaults": (8000, 256, 128, 40), "ast": (16000, 400, 160, 128)}
SECONDS = 0.6


def sound(rate: int) -> np.ndarray:
    """Tones, a rising whistle, clicks, and a part that is nearly silent."""
    time = np.arange(round(SECONDS * rate)) / rate
    tones = 0.3 * np.sin(2 * np.pi * 220 * time) + 0.1 * np.sin(2 * np.pi * 2500 * time + 1)
    whistle = 0.4 * np.sin(2 * np.pi * (300 * time + 2500 * time**2))
    clicks = 0.5 * (np.arange(len(time)) % 701 == 0)
    loud = np.where(time < 0.45, 1.0, 1e-3)
    return (loud * (tones + whistle + clicks)).astype(np.float32)


def main() -> None:
    import librosa

    spectrograms = {
        name: librosa.feature.melspectrogram(
            y=sound(rate).astype(np.float64),
            sr=rate,
            n_fft=window,
            win_length=window,
            hop_length=hop,
            window="hann",
            center=False,
            power=2.0,
            n_mels=bands,
            fmin=0.0,
            fmax=rate / 2,
            htk=True,
            norm=None,
            dtype=np.float64,
        ).T.astype(np.float32)
        for name, (rate, window, hop, bands) in CASES.items()
    }
    np.savez_compressed(PATH, **spectrograms)


if __name__ == "__main__":
    main()
