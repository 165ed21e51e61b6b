"""Small made-up folders in the layouts in which AST, DINOv2 and VideoMAE are published."""

import json
import pathlib

import numpy as np
import safetensors.numpy

from tests.convert.published_folders import random_weights

AST = {
    "model_type": "audio-spectrogram-transformer",
    "architectures": ["ASTForAudioClassification"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_length": 64,
    "num_mel_bins": 32,
}


def block_shapes(width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Of a block in the layout of vision transformers, without the bias of queries, keys and
    values.
    """
    shapes = {f"attention.attention.{part}.weight": (width,) * 2 for part in ("query", "key")}
    shapes |= {"attention.attention.value.weight": (width,) * 2}
    for name, size in (
        ("attention.output.dense", (width, width)),
        ("intermediate.dense", (hidden, width)),
        ("output.dense", (width, hidden)),
    ):
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return shapes | norm_shapes(width, "layernorm_before", "layernorm_after")


def norm_shapes(width: int, *names: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{kind}": (width,) for name in names for kind in ("weight", "bias")}


def in_blocks(depth: int, shapes: dict, prefix: str) -> dict[str, tuple[int, ...]]:
    """The shapes of one block for all."""
    return {
        f"{prefix}encoder.layer.{number}.{name}": shape
        for number in range(depth)
        for name, shape in shapes.items()
    }


def ast_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Of all tensors of an AST with a classifier."""
    width, prefix = config["hidden_size"], "audio_spectrogram_transformer."
    times, bands = ((config[name] - 16) // 10 + 1 for name in ("max_length", "num_mel_bins"))
    block = block_shapes(width, config["intermediate_size"])
    block |= {f"attention.attention.{part}.bias": (width,) for part in ("query", "key", "value")}
    own = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.distillation_token": (1, 1, width),
        "embeddings.position_embeddings": (1, times * bands + 2, width),
        "embeddings.patch_embeddings.projection.weight": (width, 1, 16, 16),
        "embeddings.patch_embeddings.projection.bias": (width,),
        **norm_shapes(width, "layernorm"),
    }
    return {
        **{f"{prefix}{name}": shape for name, shape in own.items()},
        **in_blocks(config["num_hidden_layers"], block, prefix),
        **norm_shapes(width, "classifier.layernorm"),
        "classifier.dense.weight": (3, width),
        "classifier.dense.bias": (3,),
    }


CONFIGS = {"ast": AST}
SHAPES = {"ast": ast_shapes}


def write(folder: pathlib.Path, family: str, config: dict | None = None) -> dict[str, np.ndarray]:
    """A model of a family without a preprocessor file; returns its weights."""
    config = CONFIGS[family] if config is None else config
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_weights(SHAPES[family](config))
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return weights


def random_sound(shape: tuple[int, int]) -> np.ndarray:
    """Waveforms [B,S] in [-1, 1]: noise, tones, and an offset that a filterbank takes away."""
    rng = np.random.default_rng(shape)
    time = np.arange(shape[1]) / 16000
    tones = sum(np.sin(2 * np.pi * rate * time) for rate in (210.0, 1700.0, 5200.0))
    loud = np.linspace(0.02, 0.2, shape[0])[:, None] * (1 + np.sin(9 * time))
    return (loud * (tones + rng.normal(0, 0.3, shape)) + 0.05).astype(np.float32)
