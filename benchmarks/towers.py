"""Whether towers of published sizes give what ``transformers`` gives, from pixels and captions.

    python benchmarks/towers.py --torch-python=python-with-transformers --family=clip

Weights are random, biases, normalisations and scales too, the same on both sides. It prints the
largest difference of every output over its largest value, and exits with 1 if one passes 1e-4. CI
runs ``tests/convert/test_towers.py`` on small models instead, against outputs that were kept.
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
from fgmm.convert import clip, siglip
from fgmm.convert.published import HUGGING_FACE, Published
from tests.convert import published_folders as folders
from tests.convert import test_towers as comparison

FAMILIES = {"clip": clip, "siglip": siglip}
SHAPES = {"clip": folders.clip_shapes, "siglip": folders.siglip_shapes}
CLOSE = 1e-4
# ViT-B/32 of OpenAI and ViT-B/16 of SigLIP.
CONFIGS = {
    "clip": {
        "model_type": "clip",
        "projection_dim": 512,
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 32,
        },
        "text_config": {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
        },
    },
    "siglip": {
        "model_type": "siglip",
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 16,
        },
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "projection_size": 768,
        },
    },
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-python", required=True, help="a Python with transformers")
    parser.add_argument("--family", choices=tuple(FAMILIES), default="clip")
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


def main() -> None:
    arguments = parse_arguments()
    family, config = arguments.family, CONFIGS[arguments.family]
    text = config["text_config"]
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, text["vocab_size"] - 2, (3, text["max_position_embeddings"]))
    for row, end in zip(tokens, (7, 20, len(tokens[0]) - 1), strict=True):
        row[end:] = text["vocab_size"] - 1
    pixels = folders.random_pixels((1, 300, 451, 3))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "config.json").write_text(json.dumps(config))
        np.savez(folder / "given.npz", pixels=pixels, tokens=tokens)
        command = [arguments.torch_python, "-m", "tests.convert.towers_reference", temporary]
        subprocess.run(command, check=True, cwd=pathlib.Path(__file__).resolve().parents[1])
        with np.load(folder / "expected.npz") as arrays:
            expected = {f"{family}_0_{name}": array for name, array in arrays.items()}
        write_tokenizer(folder, family, text["vocab_size"])
        weights = folders.random_weights(SHAPES[family](config))
        model = Published(HUGGING_FACE, config, weights, folder, ())
        found = FAMILIES[family].as_run(model)
        expected[f"{family}_tokens"] = tokens
        differences = comparison.furthest(found, expected, family, pixels=pixels)
    for name, difference in differences.items():
        print(f"{name:10} {difference:.2g}")
    sys.exit(int(max(differences.values()) > CLOSE))


if __name__ == "__main__":
    main()
