"""A config that trains in seconds, for tests that start real processes."""

import ml_collections

from configs import quickstart
from fgmm import components
from tests.shrunken import shrunken


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """No variants."""
    del argument
    config = shrunken(quickstart.get_config(), steps=60, pair="video_text")
    config.transforms.update(crop_area=0.5)
    config.checkpoint.every_steps = 10
    config.evals.retrieval.every = 25
    return components.complete(config)
