"""Shipped configs made small enough for a test."""

import ml_collections

from fgmm import components

# Small values of options that some components have.
_SMALL = {
    "data.source": {"size": 32, "frames": 4, "fps": 4.0, "clips": 64},
    "model.video": {
        "widths": (8,),
        "temporal_strides": (1,),
        "width": 8,
        "blocks": (1, 1),
        "width_multiplier": 0.125,
        "final_endpoint": "mixed_3b",
    },
    "model.audio": {"widths": (8,), "width": 8, "blocks": (1, 1)},
    "model.text": {"width": 16, "hidden": 16, "depth": 1, "heads": 2},
}


def shrunken(config: ml_collections.ConfigDict, steps: int = 1) -> ml_collections.ConfigDict:
    """The same experiment with small pictures, few channels, a small batch and few steps."""
    config = config.copy_and_resolve_references().unlock()
    config.steps, config.batch_size, config.optimizer.warmup_steps = steps, 8, 0
    config.data.frames = min(config.data.frames, 2)
    config.data.height = config.data.width = 16
    config.data.audio_seconds, config.data.workers = 0.5, 0
    config.progress = False
    for part, options in _SMALL.items():
        root, _, name = part.partition(".")
        _update_known(config[root].get(name, {}), options)
    for space in config.model.spaces.values():
        space.width = 8
    for evaluation in config.evals.values():
        evaluation.batch_size = 8
        if evaluation.source.name == "narrated_shapes":
            evaluation.source.update({**_SMALL["data.source"], "clips": 16})
    return components.complete(config)


def _update_known(entry, options) -> None:
    for option, value in options.items():
        if option in entry:
            entry[option] = value
