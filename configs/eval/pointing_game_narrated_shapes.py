"""Pointing game on unseen clips of narrated shapes, of which all that moves is spoken of."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clips``, ``split`` and ``size`` of the picture in pixels, as in training."""
    variant = configs.variant(argument, clips=256, split="retrieval", size=64)
    source = {
        "name": "narrated_shapes",
        "split": variant.split,
        "clips": variant.clips,
        "size": variant.size,
    }
    return ml_collections.ConfigDict({"name": "pointing_game", "source": source})
