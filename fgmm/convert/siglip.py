"""SigLIP (arXiv 2303.15343) and SigLIP 2 of fixed sizes (arXiv 2502.14786), in Hugging Face's form.

The image tower has no projection: the head of video starts as the identity, so that the space is
the published one. Local features of a picture enter the space without a projection.
"""

import re
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.convert import published as files
from fgmm.convert import towers
from fgmm.convert.converted import (
    Conversion,
    Take,
    as_is,
    convolution,
    identity,
    linear,
    linear_of_heads,
    undone_by,
    vector,
    zeros,
)
from fgmm.convert.published import PublishedModel
from fgmm.experiment.build import Experiment

MODEL = "SigLIP"
_USUAL = towers.Pictures((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "stretch", "bicubic")
_PREFIXES = {"encoders_video": "vision_model.", "encoders_text": "text_model."}


@undone_by(lambda array: array.reshape(1))
def _one_number(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.reshape(shape) if array.size == 1 else array


@undone_by(lambda array: -array.reshape(1))
def _scale(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return towers.negated(array, shape)


@undone_by(lambda array: array[None])
def _probe(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array[0] if array.ndim == 3 and len(array) == 1 else array


_POOL = "vision_model.head"
_OTHERS = {
    "model/encoders_video/embedding/kernel": Take(
        ("vision_model.embeddings.patch_embedding.weight",), convolution
    ),
    "model/encoders_video/embedding/bias": Take(
        ("vision_model.embeddings.patch_embedding.bias",), as_is
    ),
    "model/encoders_video/positions": Take(
        ("vision_model.embeddings.position_embedding.weight",), as_is
    ),
    "model/encoders_video/norm/scale": Take(("vision_model.post_layernorm.weight",), as_is),
    "model/encoders_video/norm/bias": Take(("vision_model.post_layernorm.bias",), as_is),
    "model/encoders_video/pooling/probe": Take((f"{_POOL}.probe",), _probe),
    "model/encoders_video/pooling/out/kernel": Take(
        (f"{_POOL}.attention.out_proj.weight",), linear_of_heads
    ),
    "model/encoders_video/pooling/out/bias": Take((f"{_POOL}.attention.out_proj.bias",), as_is),
    "model/encoders_video/pooling/LayerNorm_0/scale": Take((f"{_POOL}.layernorm.weight",), as_is),
    "model/encoders_video/pooling/LayerNorm_0/bias": Take((f"{_POOL}.layernorm.bias",), as_is),
    "model/encoders_video/pooling/Dense_0/kernel": Take((f"{_POOL}.mlp.fc1.weight",), linear),
    "model/encoders_video/pooling/Dense_0/bias": Take((f"{_POOL}.mlp.fc1.bias",), as_is),
    "model/encoders_video/pooling/Dense_1/kernel": Take((f"{_POOL}.mlp.fc2.weight",), linear),
    "model/encoders_video/pooling/Dense_1/bias": Take((f"{_POOL}.mlp.fc2.bias",), as_is),
    **{
        f"model/encoders_video/pooling/{name}/{leaf}": Take(
            (f"{_POOL}.attention.in_proj_{published}",), form, part=(number, 3)
        )
        for number, name in enumerate(("query", "key", "value"))
        for leaf, published, form in (("kernel", "weight", linear), ("bias", "bias", vector))
    },
    "model/encoders_text/words/embedding": Take(
        ("text_model.embeddings.token_embedding.weight",), as_is
    ),
    "model/encoders_text/positions": Take(
        ("text_model.embeddings.position_embedding.weight",), as_is
    ),
    "model/encoders_text/norm/scale": Take(("text_model.final_layer_norm.weight",), as_is),
    "model/encoders_text/norm/bias": Take(("text_model.final_layer_norm.bias",), as_is),
    "model/heads_joint_video/kernel": Take((), identity),
    "model/heads_joint_video/bias": Take((), zeros),
    "model/heads_joint_text/kernel": Take(("text_model.head.weight",), linear),
    "model/heads_joint_text/bias": Take(("text_model.head.bias",), as_is),
    "objective/published/log_temperature": Take(("logit_scale",), _scale),
    "objective/published/bias": Take(("logit_bias",), _one_number),
}


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is a SigLIP."""
    kind = published.config.get("model_type", "")
    return published.layout == files.HUGGING_FACE and kind in ("siglip", "siglip2")


def as_run(published: PublishedModel, modality: str = "") -> Conversion:
    """A published SigLIP as a run of no steps.

    Args:
      published: the model.
      modality: of the only tower to convert; empty for both.

    Raises:
      ConfigError: see ``towers.run``; or it is a SigLIP 2 for any aspect ratio (NaFlex).
    """
    config = published.config
    if config["model_type"] == "siglip2":
        raise ConfigError(
            f"--from={published.folder} is a SigLIP 2 for any aspect ratio (NaFlex), which is not "
            "supported; use one of a fixed size, whose model_type is siglip"
        )
    vision, text = (towers.options_of(config, name) for name in ("vision_config", "text_config"))
    size, patch = vision.get("image_size", 224), vision.get("patch_size", 16)
    sizes = (768, 3072, 12, 12, "gelu_pytorch_tanh", 1e-6)
    video = towers.transformer(vision, *sizes)
    bias = published.arrays.get("logit_bias", np.float32(0)).reshape(-1)[0]
    scale = towers.temperature(published.arrays.get("logit_scale"))
    found = towers.Description(
        model=MODEL,
        family="siglip",
        towers={
            "video": {
                "name": "siglip",
                "patch": patch,
                "positions": (size // patch,) * 2,
                **video,
            },
            "text": {
                "name": "siglip",
                "length": text.get("max_position_embeddings", 64),
                **towers.transformer(text, *sizes),
            },
        },
        size=size,
        width=video["width"],
        bias=True,
        term={"name": "sigmoid", **scale, "bias": float(bias)},
        pictures=towers.preprocessor(published.beside("preprocessor_config.json"), _USUAL),
        take=_take,
        others={"video": ("vision_model.",), "text": ("text_model.",)},
        ignored=lambda name: name.endswith("position_ids"),
    )
    return towers.run(published, found, modality)


def _take(path: str) -> Take:
    """Where an array of the model comes from."""
    _, part, rest = path.split("/", 2)
    if block := re.fullmatch(r"block_(\d+)/(.*)", rest):
        names = {
            role: tuple(_PREFIXES[part] + name for name in layers)
            for role, layers in towers.HUGGING_FACE_BLOCK.items()
        }
        return towers.block(block[2], int(block[1]), names)
    if part.startswith("heads"):
        path = f"model/{part}/{rest.rpartition('/')[2]}"
    return _OTHERS[path]


def _published_config(experiment: Experiment) -> dict[str, Any]:
    """The ``config.json`` that ``as_run`` would read, without ids of special tokens."""
    video, text = (experiment.model.encoders[modality] for modality in towers.MODALITIES)
    return {
        "model_type": "siglip",
        "architectures": ["SiglipModel"],
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": video.positions[0] * video.patch,
            "patch_size": video.patch,
            **towers.published_transformer(video),
        },
        "text_config": {
            "model_type": "siglip_text_model",
            "vocab_size": text.vocabulary,
            "max_position_embeddings": text.length,
            "projection_size": experiment.model.spaces[towers.SPACE]["width"],
            **towers.published_transformer(text),
        },
    }


LAYOUT = towers.Layout(
    model=MODEL,
    take=_take,
    config=_published_config,
    bias=True,
    scales=towers.SCALES,
    processor="SiglipImageProcessor",
    tokenizer="PreTrainedTokenizerFast",
)
