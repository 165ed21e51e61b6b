"""Retrieval among the pages of illustrated stories by their texts."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``split``; ``pages`` that follow each other."""
    variant = configs.variant(argument, root="storybook.tar", split="dev", pages=1)
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "image_sequence", **variant},
            "pair": "video_text",
            "captions": 1,
        }
    )
