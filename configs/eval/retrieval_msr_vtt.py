"""Retrieval among the 1,000 videos of MSR-VTT's list 1k-A, or another of its splits."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus, ``split``; ``seconds`` of a window in the middle, 0 for
    the whole of a video.
    """
    variant = configs.variant(argument, root="msr_vtt", split="test_1k", seconds=0.0)
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "msr_vtt", **variant},
            "pair": "video_text",
            # Other splits have twenty a video.
            "captions": 20,
        }
    )
