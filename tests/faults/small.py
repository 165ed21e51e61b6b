"""A config whose start takes seconds and whose step takes milliseconds, with chance in both."""

import ml_collections

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from tests.shrunken import shrunken

# Every fault is set among these.
STEPS, SAVED_EVERY, EVALUATED_EVERY = 40, 5, 15


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` is a prepared corpus to train on instead of narrated shapes."""
    variant = configs.variant(argument, root="")
    config = shrunken(quickstart.get_config(), steps=STEPS, pair="audio_text")
    config.transforms.update(time_masks=1)
    config.checkpoint.update(every_steps=SAVED_EVERY, every_minutes=0.0, keep_last=2)
    config.checkpoint.best_metric = "retrieval/coarse/text_to_audio/r@1"
    config.evals.retrieval.update(every=EVALUATED_EVERY, pair="audio_text")
    if variant.root:
        config.data.source = {"name": "prepared", "root": variant.root, "seconds": 0.4}
        config.data.source.update(minimum=0.5, candidates=1)
    return components.complete(config)
