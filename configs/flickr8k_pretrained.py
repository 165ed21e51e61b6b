"""Flickr8k through EfficientNet-Lite0 with its ImageNet weights: frozen, or with its last blocks
trained.

It is ``configs/flickr8k_features.py`` with pictures in the place of stored features: the same
heads, text, terms and variants, and with ``blocks=0`` the same features. docs/encoders.md says
where the weights are. Convert them first::

    python -m fgmm.convert --from=efficientnet-lite0-57934424.pth --output=runs/efficientnet_lite0
    python -m fgmm.data.tokenizer train --source=flickr8k --option=root=flickr8k.tar \
        --vocabulary_size=4000 --output=flickr8k.model
    python -m fgmm.main --workdir=runs/flickr8k_pretrained \
        --config=configs/flickr8k_pretrained.py:root=flickr8k.tar,tokenizer=flickr8k.model,blocks=3
"""

import pathlib
import runpy

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.train.checkpoint import config_of

# The same experiment on stored features; that config lies beside this one.
_FEATURES = runpy.run_path(str(pathlib.Path(__file__).parent / "flickr8k_features.py"))
ENCODER = "model/encoders_video"


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: those of ``configs/flickr8k_features.py``, where ``root`` is the corpus; and

    - ``start``: the folder of a run of ``configs/flickr8k_features.py`` that heads and text start
      from, so that they have learned before blocks are trained.
    - ``weights``: the folder of the converted network.
    - ``blocks``: how many of its last blocks are trained, and with them its last convolution; 0 for
      none. ``blocks_rate``: their learning rate as a multiple of that of heads and text. Running
      statistics stay as they are, and normalise in training as in evaluation.
    """
    variant = configs.variant(
        argument,
        root="flickr8k.tar",
        weights="runs/efficientnet_lite0",
        blocks=0,
        blocks_rate=0.1,
        **_FEATURES["VARIANTS"],
    )

    def pictures(split: str, **part: int) -> dict[str, str | int]:
        return {"name": "flickr8k", "root": variant.root, "split": split, **part}

    config = _FEATURES["heads_and_text"](variant, pictures)
    published = config_of(variant.weights)
    for name in ("frames", "height", "width", "resize", "resize_filter"):
        config.data[name] = published.data[name]
    for name in ("pixel_mean", "pixel_spread"):
        config.transforms[name] = published.transforms[name]
    config.model.video = {**published.model.video.to_dict(), "norm": "layer"}
    initialised = ((rf"(?!{ENCODER}/).*", "initialise"),)
    if not variant.start:
        initialised = ((f"{ENCODER}/norm/.*", "initialise"), *initialised)
    config.init_from.update(path=variant.weights, rules=initialised)
    config.optimizer.learning_rate_scale = (
        (f"{ENCODER}/norm/.*", 1.0),
        *_moving(variant, sum(published.model.video.blocks)),
        (f"{ENCODER}/.*", "frozen"),
    )
    return components.complete(config)


def _moving(variant: ml_collections.ConfigDict, blocks: int) -> tuple[tuple[str, str | float], ...]:
    """The rules on learning rates for the parts of the encoder that are trained."""
    if not 0 <= variant.blocks <= blocks:
        raise configs.ConfigError(
            f"variant blocks={variant.blocks} must be from 0 to {blocks}, those of the network"
        )
    if not variant.blocks:
        return ()
    last = "|".join(str(number) for number in range(blocks - variant.blocks, blocks))
    return (
        (f"{ENCODER}/.*/(mean|var)", "frozen"),
        (rf"{ENCODER}/(blocks_({last})|conv_head|bn1)/.*", variant.blocks_rate),
    )
