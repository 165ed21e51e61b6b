"""Retrieval among the 5,000 test images of COCO, or the 1,000 of Flickr30k, five captions each."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``split`` and ``annotations``, as in the source
    ``image_captions``.
    """
    variant = configs.variant(argument, root="coco", split="test", annotations="")
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "image_captions", **variant},
            "pair": "video_text",
            "captions": 5,
        }
    )
