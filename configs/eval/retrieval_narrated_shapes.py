"""Retrieval among 1,000 unseen clips of narrated shapes, of which all that moves is spoken of."""

import ml_collections


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """No variants."""
    del argument
    return ml_collections.ConfigDict(
        {
            "name": "retrieval",
            "source": {"name": "narrated_shapes", "split": "retrieval", "clips": 1000},
            "pair": "video_text",
            "phrases": 32,
            "tokens": 128,
        }
    )
