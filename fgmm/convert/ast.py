"""AST (arXiv 2104.01778) in Hugging Face's form, such as MIT/ast-finetuned-audioset-10-10-0.4593.

The model becomes a run without a loss, whose head starts as the identity: coarse embeddings are the
published pooled features, scaled to unit length. A classifier is left out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.convert import towers, vit
from fgmm.convert.converted import Conversion, Take
from fgmm.convert.published import PublishedModel

MODEL = "AST"
# Mean and spread of AudioSet; the published code divides by twice the spread.
_USUAL = {"sampling_rate": 16000, "mean": -4.2677393, "std": 4.5689974, "do_normalize": True}
# The length of AudioSet's clips.
_SECONDS = 10.0
_WINDOW, _HOP = 0.025, 0.01


def _of_time_and_bands(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel from (out, in, bands, time) to (time, bands, in, out)."""
    del shape
    return array.transpose(3, 2, 1, 0) if array.ndim == 4 else array


def _tokens(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Two joined tokens from (2, 1, width) to (2, width)."""
    return array.reshape(shape) if array.shape == (shape[0], 1, shape[1]) else array


_OTHERS = vit.OTHERS | {
    "embedding/kernel": Take(
        ("embeddings.patch_embeddings.projection.weight",), _of_time_and_bands
    ),
    "tokens": Take(("embeddings.cls_token", "embeddings.distillation_token"), _tokens),
}


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is an AST."""
    return published.is_of_type("audio-spectrogram-transformer")


def as_run(published: PublishedModel, modality: str = "") -> Conversion:
    """A published AST as a run of no steps.

    Args:
      published: the model.
      modality: ``"audio"``, the only one, or empty.

    Raises:
      ConfigError: see ``towers.run``; or its activation or its sound is not supported.
    """
    config = published.config
    patch, bias = config.get("patch_size", 16), config.get("qkv_bias", True)
    patches = (patch, patch) if isinstance(patch, int) else tuple(patch)[::-1]
    stride = (config.get("time_stride", 10), config.get("frequency_stride", 10))
    sizes = (config.get("max_length", 1024), config.get("num_mel_bins", 128))
    options = towers.transformer(config, 768, 3072, 12, 12, "gelu", 1e-12)
    encoder = {
        "name": "ast",
        "patch": patches,
        "stride": stride,
        "positions": tuple(
            (size - patch) // step + 1
            for size, patch, step in zip(sizes, patches, stride, strict=True)
        ),
        "tokens": 2,
        "bias": bool(bias),
        **options,
    }
    found = towers.Description(
        model=MODEL,
        towers={"audio": encoder},
        width=options["width"],
        take=vit.take_of("audio", vit.BLOCK, _OTHERS),
        sound=_sound(published.beside("preprocessor_config.json"), *sizes),
    )
    return towers.run(
        vit.encoder_alone(published, "audio_spectrogram_transformer."), found, modality
    )


def _sound(options: Mapping[str, Any], length: int, bands: int) -> towers.Sound:
    """The conventions of ``preprocessor_config.json``.

    Args:
      options: of the file; empty if it is missing.
      length, bands: of the spectrograms that the network takes.

    Raises:
      ConfigError: the file has other sizes of spectrograms.
    """
    for name, size in (("max_length", length), ("num_mel_bins", bands)):
        if options.get(name, size) != size:
            raise ConfigError(
                f"preprocessor_config.json: {name}={options[name]!r}, and config.json has {size}"
            )
    given = {name: options.get(name, value) for name, value in _USUAL.items()}
    mean, spread = (given["mean"], 2 * given["std"]) if given["do_normalize"] else (0.0, 1.0)
    # Less for a network that takes shorter spectrograms.
    seconds = min(_SECONDS, round((length - 1) * _HOP + _WINDOW, 3))
    sound = towers.Sound(given["sampling_rate"], seconds, bands, length, float(mean), float(spread))
    if not options:
        print(f"preprocessor_config.json is missing: sound as the family has it, {sound}")
    return sound
