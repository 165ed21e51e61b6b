"""What ``transformers`` computes with AST, DINOv2 and VideoMAE, for ``test_single_towers.py`` and
``benchmarks/towers.py``.

Run where torch and transformers are installed, in the repository's root::

    python -m tests.convert.single_towers_reference          # writes single_towers_reference.npz
    python -m tests.convert.single_towers_reference FOLDER   # of a folder of published sizes

Weights are random, biases and normalisations too, each array seeded by its name. Waveforms are
turned into spectrograms by the published extractor, and frames of other sizes than the towers'
brought there by the published processors.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from tests.convert import single_tower_folders as folders

# Of the waveforms of a small model: a spectrogram that is filled up, and one that is cut.
SOUNDS = ((2, 9600), (1, 11200))


@torch.no_grad()
def of_ast(folder: pathlib.Path, audio: np.ndarray) -> dict:
    """Spectrograms, features of patches in the order of time, and the pooled ones."""
    model = transformers.ASTModel.from_pretrained(folder, attn_implementation="eager").eval()
    config = model.config
    extractor = transformers.ASTFeatureExtractor(
        num_mel_bins=config.num_mel_bins, max_length=config.max_length
    )
    given = extractor(list(audio), sampling_rate=16000, return_tensors="pt")["input_values"]
    found = model(given)
    bands, times = model.embeddings.get_shape(config)
    cells = found.last_hidden_state[:, 2:].reshape(len(audio), bands, times, -1)
    return {
        "inputs": given,
        "cells": cells.swapaxes(1, 2).flatten(1, 2),
        "pooled": found.pooler_output,
    }


@torch.no_grad()
def of_dinov2(folder: pathlib.Path, clips: np.ndarray) -> dict:
    """Pictures, features of patches, and the class token's, of clips of one frame."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    options = {"size": {"shortest_edge": 256}, "image_mean": MEAN, "image_std": SPREAD}
    if (path := folder / "preprocessor_config.json").exists():
        options = json.loads(path.read_text())
    given = BitImageProcessorPil(**options)(list(clips[:, 0]), return_tensors="pt")["pixel_values"]
    found = model(given)
    first = 1 + getattr(model.config, "num_register_tokens", 0)
    return {
        "inputs": given.permute(0, 2, 3, 1)[:, None],
        "cells": found.last_hidden_state[:, first:],
        "pooled": found.pooler_output,
    }


@torch.no_grad()
def of_videomae(folder: pathlib.Path, clips: np.ndarray) -> dict:
    """Frames, features of tubelets, and what is classified or their mean."""
    (kind,) = json.loads((folder / "config.json").read_text())["architectures"]
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    size = model.config.image_size
    options = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    processor = VideoMAEImageProcessorPil(**options, image_mean=MEAN, image_std=SPREAD)
    given = torch.cat(
        [processor(list(clip), return_tensors="pt")["pixel_values"] for clip in clips]
    )
    cells = model.videomae(given).last_hidden_state
    pooled = cells.mean(1)
    if kind == "VideoMAEForVideoClassification":
        pooled = model.fc_norm(pooled)
    return {"inputs": given.permute(0, 1, 3, 4, 2), "cells": cells, "pooled": pooled}


# Of ImageNet.
MEAN, SPREAD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PICTURES = ((2, 1, 45, 61, 3), (1, 1, 61, 45, 3))
CLIPS = ((1, 4, 45, 61, 3),)
FAMILIES = {
    "ast": (of_ast, SOUNDS, folders.random_sound),
    "dinov2": (of_dinov2, PICTURES, folders.random_clips),
    "dinov2_registers": (of_dinov2, PICTURES[:1], folders.random_clips),
    "videomae": (of_videomae, CLIPS, folders.random_clips),
    "videomae_pretrained": (of_videomae, CLIPS, folders.random_clips),
}


def of_small(temporary: pathlib.Path) -> dict:
    kept = {}
    for family, (compute, sizes, given) in FAMILIES.items():
        folders.write(temporary / family, family)
        for number, size in enumerate(sizes):
            found = compute(temporary / family, given(size))
            kept |= {f"{family}_{number}_{key}": array.numpy() for key, array in found.items()}
            print(family, size, {key: f"{array.std():.3g}" for key, array in found.items()})
    return kept


def of_published_size(folder: pathlib.Path) -> None:
    """Writes ``expected.npz`` into a folder that ``benchmarks/towers.py`` made."""
    family = json.loads((folder / "family.json").read_text())
    given = np.load(folder / "given.npz")["given"]
    found = FAMILIES[family][0](folder, given)
    np.savez(folder / "expected.npz", **{name: array.numpy() for name, array in found.items()})


def main(arguments: list[str]) -> None:
    if arguments:
        return of_published_size(pathlib.Path(arguments[0]))
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        kept = of_small(pathlib.Path(temporary))
    path = pathlib.Path(__file__).parent / "single_towers_reference.npz"
    np.savez_compressed(path, **kept)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
