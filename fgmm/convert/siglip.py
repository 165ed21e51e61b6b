"""SigLIP (arXiv 2303.15343) and SigLIP 2 of fixed sizes (arXiv 2502.14786), in Hugging Face's form.

The image tower has no projection: the head of video starts as the identity, so that the space is
the published one. Local features of a picture enter the space without a projection.
"""

from typing import Any

import numpy as np

from fgmm.config import ConfigError
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
_PREFIXES = {
    "encoders_video": "vision_model.",
    "encoders_text": "text_model.",
    "heads_joint_text": "text_model.",
    "published": "",
}


@undone_by(lambda array: array.reshape(1))
def _one_number(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array.reshape(shape) if array.size == 1 else array


@undone_by(lambda array: -array.reshape(1))
def _scale(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return towers.negated(array, shape)


@undone_by(lambda array: array[None])
def _probe(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array[0] if array.ndim == 3 and len(array) == 1 else array


# All arrays but those of blocks.
_OTHERS = {
    "encoders_video": {
        "embedding/kernel": ("embeddings.patch_embedding.weight", convolution),
        "embedding/bias": ("embeddings.patch_embedding.bias", as_is),
        "positions": ("embeddings.position_embedding.weight", as_is),
        "norm/scale": ("post_layernorm.weight", as_is),
        "norm/bias": ("post_layernorm.bias", as_is),
        "pooling/probe": ("head.probe", _probe),
        "pooling/out/kernel": ("head.attention.out_proj.weight", linear_of_heads),
        "pooling/out/bias": ("head.attention.out_proj.bias", as_is),
        "pooling/LayerNorm_0/scale": ("head.layernorm.weight", as_is),
        "pooling/LayerNorm_0/bias": ("head.layernorm.bias", as_is),
        "pooling/Dense_0/kernel": ("head.mlp.fc1.weight", linear),
        "pooling/Dense_0/bias": ("head.mlp.fc1.bias", as_is),
        "pooling/Dense_1/kernel": ("head.mlp.fc2.weight", linear),
        "pooling/Dense_1/bias": ("head.mlp.fc2.bias", as_is),
        # Queries, keys and values are parts of one array.
        **{
            f"pooling/{name}/{leaf}": (f"head.attention.in_proj_{published}", form, (number, 3))
            for number, name in enumerate(("query", "key", "value"))
            for leaf, published, form in (("kernel", "weight", linear), ("bias", "bias", vector))
        },
    },
    "encoders_text": {
        "words/embedding": ("embeddings.token_embedding.weight", as_is),
        "positions": ("embeddings.position_embedding.weight", as_is),
        "norm/scale": ("final_layer_norm.weight", as_is),
        "norm/bias": ("final_layer_norm.bias", as_is),
    },
    "heads_joint_text": {"kernel": ("head.weight", linear), "bias": ("head.bias", as_is)},
    "published": {"log_temperature": ("logit_scale", _scale), "bias": ("logit_bias", _one_number)},
}


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is a SigLIP."""
    return published.is_of_type("siglip", "siglip2")


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
    leaf = rest.rpartition("/")[2]
    if part == "heads_joint_video":
        return Take((), {"kernel": identity, "bias": zeros}[leaf])
    prefix = _PREFIXES[part]
    if found := towers.block(rest, towers.HUGGING_FACE_BLOCK, prefix):
        return found
    name, *form = _OTHERS[part][leaf if part == "heads_joint_text" else rest]
    return Take((prefix + name,), *form)


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
