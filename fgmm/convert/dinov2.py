"""DINOv2 (arXiv 2304.07193), with registers or without, in Hugging Face's form.

The model becomes a run without a loss, whose head starts as the identity: coarse embeddings are the
published features of the class token, scaled to unit length. A classifier is left out.
"""

import numpy as np

from fgmm.convert import towers, vit
from fgmm.convert.converted import Conversion, Take, convolution
from fgmm.convert.published import PublishedModel

MODEL = "DINOv2"
_USUAL = towers.Pictures(
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    "cover",
    "bicubic",
    ratio=256 / 224,
    size=224,
)
_BLOCK = {
    **vit.ATTENTION,
    "norm1": ("encoder.layer.{}.norm1",),
    "norm2": ("encoder.layer.{}.norm2",),
    "scale1": ("encoder.layer.{}.layer_scale1.lambda1",),
    "scale2": ("encoder.layer.{}.layer_scale2.lambda1",),
}
_PERCEPTRON = {
    "first": ("encoder.layer.{}.mlp.fc1",),
    "second": ("encoder.layer.{}.mlp.fc2",),
}
_SWIGLU = {
    "first": ("encoder.layer.{}.mlp.weights_in",),
    "second": ("encoder.layer.{}.mlp.weights_out",),
}
_OTHERS = vit.OTHERS | {
    "embedding/kernel": Take(("embeddings.patch_embeddings.projection.weight",), convolution),
    "class_token": Take(("embeddings.cls_token",), vit.of_batch),
    "registers": Take(("embeddings.register_tokens",), vit.of_batch),
}


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is a DINOv2."""
    return published.is_of_type("dinov2", "dinov2_with_registers")


def as_run(published: PublishedModel, modality: str = "") -> Conversion:
    """A published DINOv2 as a run of no steps.

    Args:
      published: the model.
      modality: ``"video"``, the only one, or empty.

    Raises:
      ConfigError: see ``towers.run``; or its activation is not supported.
    """
    config = published.config
    options = towers.transformer(config, 768, 3072, 12, 12, "gelu", 1e-6)
    options["hidden"] = int(options["width"] * config.get("mlp_ratio", 4))
    swiglu = bool(config.get("use_swiglu_ffn"))
    if swiglu:
        # Two thirds, rounded up to a multiple of 8, as published.
        hidden = (int(options["hidden"] * 2 / 3) + 7) // 8 * 8
        options.update(activation="swiglu", hidden=hidden)
    patch = config.get("patch_size", 14)
    registers = config["model_type"] == "dinov2_with_registers"
    sizes = np.broadcast_to(config.get("image_size", 224), 2)
    encoder = {
        "name": "dinov2",
        "patch": patch,
        "positions": tuple(int(size) // patch for size in sizes),
        "registers": config.get("num_register_tokens", 4) if registers else 0,
        "antialias": registers,
        **options,
    }
    found = towers.Description(
        model=MODEL,
        towers={"video": encoder},
        width=options["width"],
        take=vit.take_of("video", _BLOCK | (_SWIGLU if swiglu else _PERCEPTRON), _OTHERS),
        pictures=towers.preprocessor(published.beside("preprocessor_config.json"), _USUAL),
        # Used in pre-training alone.
        ignored=lambda name: name == "embeddings.mask_token",
    )
    return towers.run(vit.encoder_alone(published, f"{config['model_type']}."), found, modality)
