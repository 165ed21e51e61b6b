"""What ``transformers`` computes with CLIP and SigLIP, for ``test_towers.py`` and
``benchmarks/towers.py``.

Run where torch and transformers are installed, in the repository's root::

    python -m tests.convert.towers_reference                 # writes towers_reference.npz
    python -m tests.convert.towers_reference FOLDER          # of folders of published sizes

Weights are random, biases, normalisations and scales too, each array seeded by its name; pictures
are pixels of other sizes than the towers', brought there by the published processors.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.convert import published_folders as folders

CAPTIONS = ["a red cat", "The dog's on a RED cat,\n there!", "do " * 30]
# Of the pictures of a small model, and of one whose positions are interpolated.
SIZES = ((2, 45, 61, 3), (1, 61, 45, 3))
LARGER = (1, 48, 48, 3)


def models(config: dict, weights: dict):
    """The model of a config with these weights, and the processor of its pictures."""
    kind = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel, CLIPImageProcessorPil),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel, SiglipImageProcessorPil),
    }[config["model_type"]]
    model = kind[1](kind[0](**{k: v for k, v in config.items() if k != "architectures"})).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    size = config["vision_config"]["image_size"]
    if config["model_type"] == "clip":
        square = {"height": size, "width": size}
        return model, kind[2](size={"shortest_edge": size}, crop_size=square)
    return model, kind[2](size={"height": size, "width": size})


@torch.no_grad()
def outputs(config: dict, weights: dict, pixels: np.ndarray, tokens: np.ndarray) -> dict:
    """Features of pixels and tokens, and the logits of each picture and caption."""
    model, processor = models(config, weights)
    pictures = processor(list(pixels), return_tensors="pt")["pixel_values"]
    found = model(input_ids=torch.from_numpy(tokens), pixel_values=pictures)
    cells = found.vision_model_output.last_hidden_state
    if config["model_type"] == "clip":
        cells = model.vision_model.post_layernorm(cells)[:, 1:]
    arrays = {
        "pictures": pictures.permute(0, 2, 3, 1),
        "cells": cells,
        "states": found.text_model_output.last_hidden_state,
        "video": found.image_embeds,
        "text": found.text_embeds,
        "logits": found.logits_per_image,
    }
    return {name: array.numpy() for name, array in arrays.items()}


@torch.no_grad()
def interpolated(config: dict, weights: dict, pixels: np.ndarray) -> np.ndarray:
    """Features of pictures whose size is another than that of the learned positions."""
    model, processor = models(config, weights)
    options = {"do_resize": False, "return_tensors": "pt"}
    if config["model_type"] == "clip":
        options["do_center_crop"] = False
    pictures = processor(list(pixels), **options)["pixel_values"]
    found = model.get_image_features(pixel_values=pictures, interpolate_pos_encoding=True)
    return found.pooler_output.numpy()


def clip_tokens(folder: pathlib.Path, config: dict) -> np.ndarray:
    """CLIP's own spelling of the captions."""
    folders.write_clip_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()
    length = config["text_config"]["max_position_embeddings"]
    options = {"padding": "max_length", "truncation": True, "max_length": length}
    return np.array(tokenizer(CAPTIONS, **options)["input_ids"])


def siglip_tokens(config: dict) -> np.ndarray:
    """Any ids, padded with 1 behind an end of 1."""
    text = config["text_config"]
    rng = np.random.default_rng(0)
    tokens = np.ones((3, text["max_position_embeddings"]), np.int64)
    for row, count in zip(tokens, (3, 7, len(tokens[0]) - 1), strict=True):
        row[:count] = rng.integers(4, text["vocab_size"], count)
    return tokens


def of_small(temporary: pathlib.Path) -> dict:
    kept = {}
    for config, shapes in (
        (folders.CLIP, folders.clip_shapes(folders.CLIP)),
        (folders.SIGLIP, folders.siglip_shapes(folders.SIGLIP)),
    ):
        name = config["model_type"]
        weights = folders.random_weights(shapes)
        tokens = clip_tokens(temporary, config) if name == "clip" else siglip_tokens(config)
        for number, size in enumerate(SIZES):
            found = outputs(config, weights, folders.random_pixels(size), tokens)
            kept |= {f"{name}_{number}_{key}": array for key, array in found.items()}
            print(name, size, {key: f"{array.std():.3g}" for key, array in found.items()})
        kept[f"{name}_tokens"] = tokens
        larger = folders.random_pixels(LARGER)
        kept[f"{name}_larger"] = interpolated(config, weights, larger)
    return kept


def of_published_size(folder: pathlib.Path) -> None:
    """Writes ``expected.npz`` into a folder that ``benchmarks/towers.py`` made."""
    config = json.loads((folder / "config.json").read_text())
    given = np.load(folder / "given.npz")
    shapes = {"clip": folders.clip_shapes, "siglip": folders.siglip_shapes}
    weights = folders.random_weights(shapes[config["model_type"]](config))
    np.savez(folder / "expected.npz", **outputs(config, weights, given["pixels"], given["tokens"]))


def main(arguments: list[str]) -> None:
    if arguments:
        return of_published_size(pathlib.Path(arguments[0]))
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        kept = of_small(pathlib.Path(temporary))
    path = pathlib.Path(__file__).parent / "towers_reference.npz"
    np.savez_compressed(path, **kept)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
