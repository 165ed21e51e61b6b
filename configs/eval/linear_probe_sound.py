"""Which shape is heard? A linear probe of the audio encoder on narrated shapes."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clips``."""
    variant = configs.variant(argument, clips=800)
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": {"name": "narrated_shapes", "split": "sound", "clips": variant.clips},
            "label": "sound",
            "modality": "audio",
        }
    )
