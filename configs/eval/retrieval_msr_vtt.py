"""Retrieval among the 1,000 videos of MSR-VTT's list 1k-A, or another of its splits."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus, ``split``; ``frames`` at equal distances in a window of
    ``seconds``, 0 for the whole of a video, and ``size`` of the picture.
    """
    variant = configs.variant(
        argument, root="msr_vtt", split="test_1k", seconds=0.0, frames=32, size=112
    )
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "msr_vtt", **variant},
            "pair": "video_text",
            # Other splits have twenty a video.
            "captions": 20,
        }
    )
