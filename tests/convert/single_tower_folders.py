"""Small made-up folders in the layouts in which AST, DINOv2 and VideoMAE are published."""

import json
import pathlib

import numpy as np
import safetensors.numpy

from tests.convert.published_folders import random_pixels, random_weights

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
DINOV2 = {
    "model_type": "dinov2",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 48,
    "patch_size": 8,
}
DINOV2_REGISTERS = DINOV2 | {
    "model_type": "dinov2_with_registers",
    "num_register_tokens": 3,
    "use_swiglu_ffn": True,
}
VIDEOMAE = {
    "model_type": "videomae",
    "architectures": ["VideoMAEForVideoClassification"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "decoder_hidden_size": 16,
    "decoder_intermediate_size": 24,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
}
VIDEOMAE_PRETRAINED = VIDEOMAE | {
    "architectures": ["VideoMAEForPreTraining"],
    "use_mean_pooling": False,
}
# Small pictures, as the published ones: bicubic for DINOv2, with a border that is cut off.
PREPROCESSORS = {
    family: {
        "size": {"shortest_edge": 36},
        "crop_size": {"height": 32, "width": 32},
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    for family in ("dinov2", "dinov2_registers")
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


def dinov2_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a DINOv2 without a classifier."""
    width, patch = config["hidden_size"], config["patch_size"]
    hidden = width * config["mlp_ratio"]
    block = {
        name: shape
        for name, shape in block_shapes(width, hidden).items()
        if name.startswith("attention")
    }
    block |= {f"attention.attention.{part}.bias": (width,) for part in ("query", "key", "value")}
    block |= norm_shapes(width, "norm1", "norm2")
    block |= {f"layer_scale{number}.lambda1": (width,) for number in (1, 2)}
    layers = {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    if config.get("use_swiglu_ffn"):
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
        layers = {"mlp.weights_in": (2 * hidden, width), "mlp.weights_out": (width, hidden)}
    for name, shape in layers.items():
        block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    own = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, (config["image_size"] // patch) ** 2 + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": (width,),
        **norm_shapes(width, "layernorm"),
    }
    if registers := config.get("num_register_tokens"):
        own["embeddings.register_tokens"] = (1, registers, width)
    return own | in_blocks(config["num_hidden_layers"], block, "")


def videomae_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a VideoMAE, with its classifier or with parts of its decoder."""
    width, patch = config["hidden_size"], config["patch_size"]
    block = block_shapes(width, config["intermediate_size"])
    block |= {f"attention.attention.{part}_bias": (width,) for part in "qv"}
    name = "videomae.embeddings.patch_embeddings.projection"
    own = {f"{name}.weight": (width, 3, 2, patch, patch), f"{name}.bias": (width,)}
    own |= in_blocks(config["num_hidden_layers"], block, "videomae.")
    if config.get("use_mean_pooling", True):
        own |= norm_shapes(width, "fc_norm")
        return own | {"classifier.weight": (2, width), "classifier.bias": (2,)}
    narrow = config["decoder_hidden_size"]
    return own | {
        **norm_shapes(width, "videomae.layernorm"),
        "mask_token": (1, 1, narrow),
        "encoder_to_decoder.weight": (narrow, width),
        **norm_shapes(narrow, "decoder.norm"),
    }


CONFIGS = {
    "ast": AST,
    "dinov2": DINOV2,
    "dinov2_registers": DINOV2_REGISTERS,
    "videomae": VIDEOMAE,
    "videomae_pretrained": VIDEOMAE_PRETRAINED,
}
SHAPES = {
    "ast": ast_shapes,
    "dinov2": dinov2_shapes,
    "dinov2_registers": dinov2_shapes,
    "videomae": videomae_shapes,
    "videomae_pretrained": videomae_shapes,
}


def write(folder: pathlib.Path, family: str, config: dict | None = None) -> dict[str, np.ndarray]:
    """A model of a family, the small one by default, which has the preprocessor file that it
    needs; returns its weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config is None and family in PREPROCESSORS:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS[family]))
    config = CONFIGS[family] if config is None else config
    weights = random_weights(SHAPES[family](config))
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return weights


def random_clips(shape: tuple[int, ...]) -> np.ndarray:
    """Frames [B,T,H,W,3] of pixels."""
    return random_pixels((shape[0] * shape[1], *shape[2:])).reshape(shape)


def random_sound(shape: tuple[int, int]) -> np.ndarray:
    """Waveforms [B,S] in [-1, 1]: noise, tones, and an offset that a filterbank takes away."""
    rng = np.random.default_rng(shape)
    time = np.arange(shape[1]) / 16000
    tones = sum(np.sin(2 * np.pi * rate * time) for rate in (210.0, 1700.0, 5200.0))
    loud = np.linspace(0.02, 0.2, shape[0])[:, None] * (1 + np.sin(9 * time))
    return (loud * (tones + rng.normal(0, 0.3, shape)) + 0.05).astype(np.float32)
