"""Shipped configs made small enough for a test."""

import ml_collections

from fgmm import config as configs


def shrunken(config: ml_collections.ConfigDict, steps: int = 1) -> ml_collections.ConfigDict:
    """The same experiment with small pictures, few channels, a small batch and few steps."""
    config = config.copy_and_resolve_references().unlock()
    config.steps, config.batch_size, config.optimizer.warmup_steps = steps, 8, 0
    config.data.frames = min(config.data.frames, 2)
    config.data.height = config.data.width = 16
    config.data.audio_seconds = 0.5
    config.progress = False
    if config.data.source.name == "narrated_shapes":
        config.data.source.update(size=32, frames=4, fps=4.0, clips=64)
    if "video" in config.model:
        config.model.video.update(widths=(8,), temporal_strides=(1,))
    if "audio" in config.model:
        config.model.audio.update(widths=(8,))
    if "text" in config.model:
        config.model.text.update(width=16, depth=1, heads=2)
    for space in config.model.spaces.values():
        space.width = 8
    for evaluation in config.evals.values():
        evaluation.batch_size = 8
        if evaluation.source.name == "narrated_shapes":
            evaluation.source.update(size=32, frames=4, fps=4.0, clips=16)
    return configs.complete(config)
