"""Small made-up folders in the layouts in which CLIP and SigLIP are published."""

import io
import json
import pathlib
import zlib

import numpy as np
import safetensors.numpy

BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("r", "e"), ("re", "d</w>")]
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def clip_vocabulary() -> dict[str, int]:
    """Ids of byte-level pieces in CLIP's order: letters, letters that end a word, merged ones."""
    others = [number for number in range(256) if number not in BYTES]
    letters = [chr(number) for number in BYTES] + [chr(256 + i) for i in range(len(others))]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, MERGES), *SPECIAL]
    return {piece: number for number, piece in enumerate(pieces)}


def write_clip_tokenizer(folder: pathlib.Path) -> None:
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary()))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines))


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays in these shapes, each seeded by its name. Activations are of order one, but those
    that enter the first block are small, as in published weights, so that an epsilon counts.
    """
    return {name: _array(name, tuple(shape)) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    layer, _, kind = name.rpartition(".")
    if name == "logit_scale":
        array = np.full(shape, 2.3)
    elif name == "logit_bias":
        array = np.full(shape, -7.0)
    elif "patch_embedding" in name and kind == "weight":
        array = rng.normal(0, 0.03 / np.prod(shape[1:]) ** 0.5, shape)
    elif "embedding" in name:
        array = rng.normal(0, 0.03, shape)
    elif "norm" in layer.rpartition(".")[2] and kind == "weight":
        array = rng.uniform(0.5, 1.5, shape)
    elif kind in ("bias", "in_proj_bias"):
        array = rng.normal(0, 0.5, shape)
    elif kind == "probe":
        array = rng.normal(0, 1, shape)
    else:
        array = rng.normal(0, (1 / np.prod(shape[1:])) ** 0.5, shape)
    return array.astype(np.float32)


def random_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Pixels 0..255 [B,H,W,3] whose neighbours are alike, so that filters tell apart."""
    rng = np.random.default_rng(shape)
    coarse = rng.uniform(0, 255, (shape[0], shape[1] // 3 + 2, shape[2] // 3 + 2, 3))
    fine = coarse.repeat(3, axis=1).repeat(3, axis=2)[:, : shape[1], : shape[2]]
    return np.clip(fine + rng.normal(0, 20, shape), 0, 255).astype(np.uint8)


def block_shapes(prefix: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Of a block of CLIP or SigLIP in Hugging Face's layout."""
    shapes = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        shapes |= {f"self_attn.{name}.weight": (width, width), f"self_attn.{name}.bias": (width,)}
    for name in ("layer_norm1", "layer_norm2"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    shapes |= {"mlp.fc1.weight": (hidden, width), "mlp.fc1.bias": (hidden,)}
    shapes |= {"mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,)}
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def tower_shapes(name: str, tower: dict, norms: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Of what the towers of both families have."""
    width = tower["hidden_size"]
    shapes = {f"{name}.{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    for number in range(tower["num_hidden_layers"]):
        prefix = f"{name}.encoder.layers.{number}"
        shapes |= block_shapes(prefix, width, tower["intermediate_size"])
    if name == "vision_model":
        patch = tower["patch_size"]
        shapes[f"{name}.embeddings.patch_embedding.weight"] = (width, 3, patch, patch)
    else:
        shapes[f"{name}.embeddings.token_embedding.weight"] = (tower["vocab_size"], width)
        length = tower["max_position_embeddings"]
        shapes[f"{name}.embeddings.position_embedding.weight"] = (length, width)
    return shapes


def clip_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a CLIP in Hugging Face's layout."""
    vision, text, joint = config["vision_config"], config["text_config"], config["projection_dim"]
    cells = (vision["image_size"] // vision["patch_size"]) ** 2
    return {
        **tower_shapes("vision_model", vision, ("pre_layrnorm", "post_layernorm")),
        **tower_shapes("text_model", text, ("final_layer_norm",)),
        "vision_model.embeddings.class_embedding": (vision["hidden_size"],),
        "vision_model.embeddings.position_embedding.weight": (cells + 1, vision["hidden_size"]),
        "visual_projection.weight": (joint, vision["hidden_size"]),
        "text_projection.weight": (joint, text["hidden_size"]),
        "logit_scale": (),
    }


def siglip_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Of all tensors of a SigLIP in Hugging Face's layout."""
    vision, text = config["vision_config"], config["text_config"]
    cells, width = (vision["image_size"] // vision["patch_size"]) ** 2, vision["hidden_size"]
    shapes = {
        **tower_shapes("vision_model", vision, ("post_layernorm",)),
        **tower_shapes("text_model", text, ("final_layer_norm",)),
        "vision_model.embeddings.patch_embedding.bias": (width,),
        "vision_model.embeddings.position_embedding.weight": (cells, width),
        "text_model.head.weight": (text["projection_size"], text["hidden_size"]),
        "text_model.head.bias": (text["projection_size"],),
        "logit_scale": (1,),
        "logit_bias": (1,),
    }
    head, hidden = "vision_model.head", vision["intermediate_size"]
    shapes |= {
        f"{head}.probe": (1, 1, width),
        f"{head}.attention.in_proj_weight": (3 * width, width),
        f"{head}.attention.in_proj_bias": (3 * width,),
        f"{head}.attention.out_proj.weight": (width, width),
        f"{head}.attention.out_proj.bias": (width,),
        f"{head}.layernorm.weight": (width,),
        f"{head}.layernorm.bias": (width,),
        f"{head}.mlp.fc1.weight": (hidden, width),
        f"{head}.mlp.fc1.bias": (hidden,),
        f"{head}.mlp.fc2.weight": (width, hidden),
        f"{head}.mlp.fc2.bias": (width,),
    }
    return shapes


CLIP = {
    "model_type": "clip",
    "architectures": ["CLIPModel"],
    "projection_dim": 24,
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "text_config": {
        "hidden_size": 16,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(clip_vocabulary()),
        "max_position_embeddings": 20,
        "bos_token_id": len(clip_vocabulary()) - 2,
        "eos_token_id": len(clip_vocabulary()) - 1,
    },
}
SIGLIP = {
    "model_type": "siglip",
    "architectures": ["SiglipModel"],
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "text_config": {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 30,
        "max_position_embeddings": 12,
        "projection_size": 32,
    },
}


def write_clip(folder: pathlib.Path, config: dict = CLIP, weights: dict | None = None) -> dict:
    """A CLIP in Hugging Face's layout without a preprocessor file; returns its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_weights(clip_shapes(config)) if weights is None else weights
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    write_clip_tokenizer(folder)
    return weights


def write_siglip(folder: pathlib.Path, config: dict = SIGLIP) -> dict:
    """A SigLIP in Hugging Face's layout, with a SentencePiece model; returns its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = random_weights(siglip_shapes(config))
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    (folder / "spiece.model").write_bytes(sentencepiece_model(config["text_config"]["vocab_size"]))
    return weights


def sentencepiece_model(pieces: int) -> bytes:
    """A unigram model whose ids 0, 1 and 2 are padding, end and unknown, as SigLIP's."""
    import sentencepiece  # which the reference, in another environment, does not need

    words = ("red", "blue", "cat", "dog", "grass", "ball", "rolls", "runs", "green", "jumps")
    captions = [f"a {one} on the {other}" for one in words for other in words]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(captions),
        model_writer=model,
        model_type="unigram",
        vocab_size=pieces,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
