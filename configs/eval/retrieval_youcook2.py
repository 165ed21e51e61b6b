"""Retrieval of the steps of recipes by the sentences that describe them, on YouCook2."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus, ``split``; ``seconds`` of a window in the middle, 0 for
    the whole of a step.
    """
    variant = configs.variant(argument, root="youcook2", split="validation", seconds=0.0)
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "youcook2", **variant},
            "pair": "video_text",
            "captions": 1,
        }
    )
