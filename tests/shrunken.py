"""Shipped configs made small enough for a test."""

import ml_collections

from fgmm import components
from tests.models.small import SMALL

# Small values of options that some sources have.
_SMALL_SOURCE = {"size": 32, "frames": 4, "fps": 4.0, "clips": 64}


# Pictures of 16 pixels leave but one stage its cells.
_ONE_STAGE = {
    "resnet2plus1d": {"widths": (8,), "temporal_strides": (1,)},
    "resnet": {"widths": (8,)},
    "phrase_transformer": {"width": 16, "depth": 1, "heads": 2},
}


def shrunken(
    config: ml_collections.ConfigDict, steps: int = 1, pair: str = ""
) -> ml_collections.ConfigDict:
    """The same experiment with small pictures, few channels, a small batch and few steps. What
    starts from another run has the sizes of that one.

    ``pair``, such as "audio_text", leaves its two modalities alone and the terms on it, for tests
    to which the others are nothing but compilation.
    """
    config = config.copy_and_resolve_references().unlock()
    if pair:
        _keep(config, pair)
    config.steps, config.batch_size, config.optimizer.schedule.warmup = steps, 8, 0.0
    start = config.init_from.path or config.init_from.also
    # Stored features have the size that they have.
    if not config.data.features:
        config.data.frames = min(config.data.frames, 2)
    if not (config.data.features or start):
        config.data.height = config.data.width = 16
    config.data.seconds, config.data.workers = 0.5, 0
    # pytest has the same timer for tests that hang.
    config.progress, config.watchdog_seconds = False, 0.0
    _update_known(config.data.source, _SMALL_SOURCE)
    for modality, encoders in SMALL.items():
        if modality in config.model:
            entry = config.model[modality]
            if not start:
                entry.update(_ONE_STAGE.get(entry.name, encoders.get(entry.name, {})))
            # Learned positions of captions may be fewer than a config asks for.
            config.data.tokens = min(config.data.tokens, entry.get("length", config.data.tokens))
    for space in config.model.spaces.values():
        space.width = space.width if start else 8
    for evaluation in config.evals.values():
        evaluation.batch_size = 8
        if evaluation.source.name == "narrated_shapes":
            evaluation.source.update({**_SMALL_SOURCE, "clips": 16})
    return components.complete(config)


def _keep(config: ml_collections.ConfigDict, pair: str) -> None:
    kept = tuple(pair.split("_"))
    for modality in set(config.model) & set(SMALL) - set(kept):
        del config.model[modality]
    config.model.spaces.joint.modalities = kept
    for name, term in list(config.objective.terms.items()):
        if term.pair != pair:
            del config.objective.terms[name]
    for evaluation in config.evals.values():
        if "pair" in evaluation:
            evaluation.pair = pair
    first, second = kept
    best = config.checkpoint.best_metric
    config.checkpoint.best_metric = best.replace("text_to_video", f"{second}_to_{first}")


def _update_known(entry, options) -> None:
    for option, value in options.items():
        # Components share names of options whose kinds differ.
        if option in entry and isinstance(value, type(entry[option])):
            entry[option] = value
