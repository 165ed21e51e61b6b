"""Retrieval among the 1,000 dev images of Flickr8k, five captions each."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus, ``split``."""
    variant = configs.variant(argument, root="flickr8k.tar", split="dev")
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "flickr8k", "root": variant.root, "split": variant.split},
            "pair": "video_text",
            "captions": 5,
        }
    )
