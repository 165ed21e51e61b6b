"""Compares towers of published sizes with those of ``transformers``, from pixels, waveforms and
captions.

    python benchmarks/towers.py --torch-python=python-with-transformers --family=clip

Weights are random, biases, normalisations and scales too, the same on both sides. It prints the
largest difference of every output over its largest value, and exits with 1 if one passes 1e-4. CI
runs ``tests/convert/test_towers.py`` and ``test_single_towers.py`` on small models instead, against
stored outputs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from fgmm.convert import clip, published, siglip
from fgmm.convert.families import family_of
from fgmm.convert.published import HUGGING_FACE, PublishedModel
from tests.convert import published_folders as folders
from tests.convert import single_tower_folders as single
from tests.convert import test_single_towers, test_towers

FAMILIES = {"clip": clip, "siglip": siglip}
SHAPES = {"clip": folders.clip_shapes, "siglip": folders.siglip_shapes}
CLOSE = 1e-4
_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
# ViT-B/32 of OpenAI and ViT-B/16 of SigLIP.
CONFIGS = {
    "clip": {
        "model_type": "clip",
        "projection_dim": 512,
        "vision_config": {
            **_BASE,
            "image_size": 224,
            "patch_size": 32,
        },
        "text_config": {
            **_BASE,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
        },
    },
    "siglip": {
        "model_type": "siglip",
        "vision_config": {
            **_BASE,
            "image_size": 224,
            "patch_size": 16,
        },
        "text_config": {
            **_BASE,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "projection_size": 768,
        },
    },
}
# Towers alone, as published: the family, its config, and what it is given.
SINGLE = {
    "ast": (
        "ast",
        _BASE
        | {"model_type": "audio-spectrogram-transformer", "max_length": 1024, "num_mel_bins": 128},
        lambda: single.random_sound((1, 160_000)),
    ),
    "dinov2": (
        "dinov2",
        {"model_type": "dinov2", "image_size": 518, "patch_size": 14, "mlp_ratio": 4, **_BASE},
        lambda: single.random_clips((1, 1, 300, 451, 3)),
    ),
    "videomae": (
        "videomae",
        {"model_type": "videomae", "architectures": ["VideoMAEForVideoClassification"]}
        | {"image_size": 224, "patch_size": 16, "num_frames": 16, **_BASE},
        lambda: single.random_clips((1, 16, 240, 320, 3)),
    ),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-python", required=True, help="a Python with transformers")
    parser.add_argument("--family", choices=(*FAMILIES, *SINGLE), default="clip")
    return parser.parse_args()


def write_tokenizer(folder: pathlib.Path, family: str, size: int) -> None:
    """A tokenizer of as many words as the published one; the comparison is of ids."""
    words = {f"w{number}": number for number in range(size)}
    ends = {"clip": ("<|startoftext|>", "<|endoftext|>"), "siglip": ("</s>",)}[family]
    for number, token in enumerate(ends, size - len(ends)):
        del words[f"w{number}"]
        words[token] = number
    model = tokenizers.models.WordLevel(words, unk_token="w0")
    tokenizers.Tokenizer(model).save(str(folder / "tokenizer.json"))


def computed(folder: pathlib.Path, torch_python: str, module: str) -> dict[str, np.ndarray]:
    """What ``transformers`` makes of ``given.npz`` in a folder."""
    command = [torch_python, "-m", f"tests.convert.{module}", str(folder)]
    subprocess.run(command, check=True, cwd=pathlib.Path(__file__).resolve().parents[1])
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def of_two_towers(folder: pathlib.Path, family: str, torch_python: str) -> dict[str, float]:
    """The differences of CLIP or SigLIP."""
    config = CONFIGS[family]
    text = config["text_config"]
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, text["vocab_size"] - 2, (3, text["max_position_embeddings"]))
    for row, end in zip(tokens, (7, 20, len(tokens[0]) - 1), strict=True):
        row[end:] = text["vocab_size"] - 1
    pixels = folders.random_pixels((1, 300, 451, 3))
    (folder / "config.json").write_text(json.dumps(config))
    np.savez(folder / "given.npz", pixels=pixels, tokens=tokens)
    found = computed(folder, torch_python, "towers_reference")
    expected = {f"{family}_0_{name}": array for name, array in found.items()}
    expected[f"{family}_tokens"] = tokens
    write_tokenizer(folder, family, text["vocab_size"])
    weights = folders.random_weights(SHAPES[family](config))
    run = FAMILIES[family].as_run(PublishedModel(HUGGING_FACE, config, weights, folder, ()))
    return test_towers.furthest(run, expected, family, pixels=pixels)


def of_one_tower(folder: pathlib.Path, name: str, torch_python: str) -> dict[str, float]:
    """The differences of a tower alone."""
    family, config, make = SINGLE[name]
    given = make()
    single.write(folder, family, config)
    np.savez(folder / "given.npz", given=given)
    (folder / "family.json").write_text(json.dumps(family))
    found = computed(folder, torch_python, "single_towers_reference")
    expected = {f"{family}_0_{key}": array for key, array in found.items()}
    model = published.read(folder)
    run = family_of(model).as_run(model)
    return test_single_towers.furthest(run, expected, family, given=given)


def main() -> None:
    arguments = parse_arguments()
    compare = of_two_towers if arguments.family in FAMILIES else of_one_tower
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        differences = compare(folder, arguments.family, arguments.torch_python)
    for name, difference in differences.items():
        print(f"{name:10} {difference:.2g}")
    sys.exit(int(max(differences.values()) > CLOSE))


if __name__ == "__main__":
    main()
