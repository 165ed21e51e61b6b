"""Which shape is heard? Classes by their names, in words of the narration of the corpus."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clips``."""
    variant = configs.variant(argument, clips=800)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "narrated_shapes", "split": "sound", "clips": variant.clips},
            "label": "sound",
            "modality": "audio",
            "templates": (
                "{}",
                "a red {}",
                "an orange {}",
                "a yellow {}",
                "a green {}",
                "a cyan {}",
                "a blue {}",
                "a purple {}",
                "a white {}",
            ),
        }
    )
