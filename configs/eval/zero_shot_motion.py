"""Which way do shapes move? Classes by their names, in words of the narration of the corpus."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clips``, and ``size`` of the picture in pixels."""
    variant = configs.variant(argument, clips=800, size=64)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {
                "name": "narrated_shapes",
                "split": "motion",
                "clips": variant.clips,
                "size": variant.size,
            },
            "label": "motion",
            "modality": "video",
            "templates": (
                "{}",
                "the circle is {}",
                "there is a square that is {}",
                "the triangle keeps {}",
                "now the star starts {}",
                "you will see a ring {}",
                "watch the cross, it is {}",
            ),
            "words": {
                "left": "moving left",
                "right": "moving right",
                "up": "moving up",
                "down": "moving down",
                "clockwise": "circling clockwise",
                "counterclockwise": "circling counterclockwise",
                "shaking": "shaking from side to side",
                "bouncing": "bouncing up and down",
            },
        }
    )
