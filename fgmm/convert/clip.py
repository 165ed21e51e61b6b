"""CLIP (arXiv 2103.00020) as published by OpenAI, open_clip and in Hugging Face's layout."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.convert import towers
from fgmm.convert.converted import Conversion, Take, as_is, convolution, linear
from fgmm.convert.published import OPEN_CLIP, STATE_DICT, PublishedModel
from fgmm.experiment.build import Experiment

MODEL = "CLIP"
_USUAL = towers.Pictures(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "cover", "bicubic"
)
_ACTIVATIONS = ("quick_gelu", "gelu")
# Layers of a block in OpenAI's layout.
_OPENAI = {
    "norm1": ("transformer.resblocks.{}.ln_1",),
    "attention": ("transformer.resblocks.{}.attn.in_proj",),
    "out": ("transformer.resblocks.{}.attn.out_proj",),
    "norm2": ("transformer.resblocks.{}.ln_2",),
    "first": ("transformer.resblocks.{}.mlp.c_fc",),
    "second": ("transformer.resblocks.{}.mlp.c_proj",),
}
# Names begin so in each encoder: first in Hugging Face's layout, then in OpenAI's, which open_clip
# shares. So it is in the tables below.
_PREFIXES = {
    "encoders_video": ("vision_model.", "visual."),
    "encoders_text": ("text_model.", ""),
}
# All other arrays of the encoders. Hugging Face spells ``pre_layrnorm`` so.
_OTHERS = {
    "encoders_video": {
        "embedding/kernel": ("embeddings.patch_embedding.weight", "conv1.weight"),
        "class_token": ("embeddings.class_embedding", "class_embedding"),
        "positions": ("embeddings.position_embedding.weight", "positional_embedding"),
        "norm_before/scale": ("pre_layrnorm.weight", "ln_pre.weight"),
        "norm_before/bias": ("pre_layrnorm.bias", "ln_pre.bias"),
        "norm/scale": ("post_layernorm.weight", "ln_post.weight"),
        "norm/bias": ("post_layernorm.bias", "ln_post.bias"),
    },
    "encoders_text": {
        "words/embedding": ("embeddings.token_embedding.weight", "token_embedding.weight"),
        "positions": ("embeddings.position_embedding.weight", "positional_embedding"),
        "norm/scale": ("final_layer_norm.weight", "ln_final.weight"),
        "norm/bias": ("final_layer_norm.bias", "ln_final.bias"),
    },
}
# The local projections and the coarse one all start from the published one.
_ALONE = {
    "heads_joint_video/kernel": (("visual_projection.weight", linear), ("visual.proj", as_is)),
    "heads_joint_text/kernel": (("text_projection.weight", linear), ("text_projection", as_is)),
    "published/log_temperature": (("logit_scale", towers.negated),) * 2,
}
# Options of open_clip's towers that are supported.
_KNOWN = {
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is a CLIP."""
    if published.layout == OPEN_CLIP:
        return True
    if published.layout == STATE_DICT:
        return "visual.conv1.weight" in published.arrays
    return published.is_of_type("clip")


def as_run(published: PublishedModel, modality: str = "", activation: str = "") -> Conversion:
    """A published CLIP as a run of no steps.

    Args:
      published: the model.
      modality: of the only tower to convert; empty for both.
      activation: ``"quick_gelu"`` or ``"gelu"``, of a state dict, which does not say it.

    Raises:
      ConfigError: see ``towers.run``; or an option of the model is not supported, or a state dict
        comes without ``activation``.
    """
    if published.layout == STATE_DICT and activation not in _ACTIVATIONS:
        raise ConfigError(
            f"--from={published.files[0]} does not say its activation: give "
            "--activation=quick_gelu, for OpenAI's weights, or gelu, for open_clip's without "
            "quickgelu in their name"
        )
    openai = published.layout in (OPEN_CLIP, STATE_DICT)
    entries = _openai_entries(published, activation) if openai else _hugging_face_entries(published)
    pictures = (
        _open_clip_pictures(published.config)
        if openai
        else towers.preprocessor(published.beside("preprocessor_config.json"), _USUAL)
    )
    scale = published.arrays.get("logit_scale")
    found = towers.Description(
        model=MODEL,
        family="clip",
        towers=entries["towers"],
        size=entries["size"],
        width=entries["width"],
        bias=False,
        term={"name": "info_nce", **towers.temperature(scale)},
        pictures=pictures,
        take=lambda path: _take(path, int(openai)),
        others={
            "video": ("visual", "vision_model."),
            "text": ("text_", "transformer.", "token_embedding", "positional_", "ln_final"),
        },
        ignored=lambda name: (
            name.endswith(("position_ids", "attn_mask"))
            # Numbers that OpenAI keeps beside its weights.
            or name in ("input_resolution", "context_length", "vocab_size")
        ),
    )
    return towers.run(published, found, modality)


def _take(path: str, layout: int) -> Take:
    """Where an array of the model comes from, in layout 0 (Hugging Face's) or 1 (OpenAI's)."""
    _, part, rest = path.split("/", 2)
    if part not in _PREFIXES:
        name, form = _ALONE[f"{part}/{rest.rpartition('/')[2]}"][layout]
        return Take((name,), form)
    prefix, layers = _PREFIXES[part][layout], (towers.HUGGING_FACE_BLOCK, _OPENAI)[layout]
    if found := towers.block(rest, layers, prefix):
        return found
    form = convolution if rest == "embedding/kernel" else as_is
    return Take((prefix + _OTHERS[part][rest][layout],), form)


def _hugging_face_entries(published: PublishedModel) -> dict[str, Any]:
    vision, text = (
        towers.options_of(published.config, name) for name in ("vision_config", "text_config")
    )
    size, patch = vision.get("image_size", 224), vision.get("patch_size", 32)
    ends = text.get("eos_token_id", 49407)
    rows = text.get("vocab_size", 49408)
    return {
        "size": size,
        "width": published.config.get("projection_dim", 512),
        "towers": {
            "video": {
                "name": "clip",
                "patch": patch,
                "positions": (size // patch,) * 2,
                **towers.transformer(vision, 768, 3072, 12, 12, "quick_gelu", 1e-5),
            },
            "text": {
                "name": "clip",
                "length": text.get("max_position_embeddings", 77),
                # Early files say 2, but their captions end with the last token of the vocabulary.
                "end_token": rows - 1 if ends == 2 else ends,
                **towers.transformer(text, 512, 2048, 12, 8, "quick_gelu", 1e-5),
            },
        },
    }


def _openai_entries(published: PublishedModel, activation: str) -> dict[str, Any]:
    """Entries of the config from open_clip's config if there is one, otherwise from shapes."""
    config = published.config.get("model_cfg", published.config)
    vision, text = _open_clip_towers(config) if config else _towers_of_shapes(published.arrays)
    if config:
        activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    shared = {"activation": activation, "epsilon": 1e-5}
    patch, size = vision["patch_size"], vision["image_size"]
    return {
        "size": size,
        "width": config.get("embed_dim") if config else len(published.arrays["text_projection"][0]),
        "towers": {
            "video": {
                "name": "clip",
                "patch": patch,
                "positions": (size // patch,) * 2,
                "width": vision["width"],
                "depth": vision["layers"],
                "heads": vision["width"] // vision.get("head_width", 64),
                "hidden": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
                **shared,
            },
            "text": {
                "name": "clip",
                "length": text["context_length"],
                "end_token": text["vocab_size"] - 1,
                "width": text["width"],
                "depth": text["layers"],
                "heads": text["heads"],
                "hidden": int(text["width"] * text.get("mlp_ratio", 4.0)),
                **shared,
            },
        },
    }


def _open_clip_towers(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = ("embed_dim", "quick_gelu", *_KNOWN)
    unknown = [name for name, value in config.items() if name not in known and value]
    for section, names in _KNOWN.items():
        given = towers.options_of(config, section)
        unknown += [f"{section}.{name}" for name in given if name not in names and given[name]]
    if unknown:
        raise ConfigError(
            f"options of this open_clip model that are not supported: {', '.join(unknown)}"
        )
    usual_text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    usual_vision = {"image_size": 224, "width": 768, "layers": 12, "patch_size": 16}
    return usual_vision | dict(config["vision_cfg"]), usual_text | dict(config["text_cfg"])


def _towers_of_shapes(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of both towers from the shapes of OpenAI's arrays; an attention head is 64 wide."""
    try:
        width, _, patch, _ = arrays["visual.conv1.weight"].shape
        cells = len(arrays["visual.positional_embedding"]) - 1
        length, narrow = arrays["positional_embedding"].shape
        rows = len(arrays["token_embedding.weight"])
    except (KeyError, ValueError) as error:
        raise ConfigError(f"the state dict is no {MODEL}: it lacks {error}") from error
    depths = [
        len({name.split(".")[at] for name in arrays if name.startswith(prefix)})
        for prefix, at in (("visual.transformer.resblocks.", 3), ("transformer.resblocks.", 2))
    ]
    vision = {"width": width, "patch_size": patch, "layers": depths[0]}
    vision["image_size"] = patch * round(cells**0.5)
    text = {"width": narrow, "context_length": length, "vocab_size": rows, "layers": depths[1]}
    return vision, text | {"heads": narrow // 64}


def _open_clip_pictures(config: Mapping[str, Any]) -> towers.Pictures:
    options = config.get("preprocess_cfg") or {}
    if not options:
        print(f"preprocess_cfg is missing: pictures as the family has them, {_USUAL}")
        return _USUAL
    modes = {"shortest": "cover", "squash": "stretch"}
    mode = options.get("resize_mode") or "shortest"
    if mode not in modes:
        raise ConfigError(f"preprocess_cfg.resize_mode={mode!r} is unknown; allowed: {[*modes]}")
    return towers.Pictures(
        tuple(map(float, options.get("mean", _USUAL.mean))),
        tuple(map(float, options.get("std", _USUAL.spread))),
        modes[mode],
        towers.filter_named(options.get("interpolation") or "bicubic", "interpolation"),
    )


def _published_config(experiment: Experiment) -> dict[str, Any]:
    """The inverse of ``_hugging_face_entries``."""
    video, text = (experiment.model.encoders[modality] for modality in towers.MODALITIES)
    width = experiment.model.spaces[towers.SPACE]["width"]
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": width,
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": video.positions[0] * video.patch,
            "patch_size": video.patch,
            "projection_dim": width,
            **towers.published_transformer(video),
        },
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text.vocabulary,
            "max_position_embeddings": text.length,
            "projection_dim": width,
            **towers.published_transformer(text),
        },
    }


LAYOUT = towers.Layout(
    model=MODEL,
    take=functools.partial(_take, layout=0),
    config=_published_config,
    bias=False,
    scales=towers.SCALES[:1],
    processor="CLIPImageProcessor",
    tokenizer="CLIPTokenizer",
)
