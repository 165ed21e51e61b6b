"""A config that trains in seconds, for tests that start real processes."""

import ml_collections

from configs import quickstart
from fgmm import config as configs
from tests.shrunken import shrunken


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: any root key that a test wants to change is a flag instead."""
    del argument
    config = shrunken(quickstart.get_config(), steps=60)
    config.checkpoint.every_steps = 10
    config.checkpoint.best_metric = ""
    config.evals = {}
    return configs.complete(config)
