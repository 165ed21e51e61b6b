"""Which way do shapes move? A linear probe of the video encoder on narrated shapes."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clips``, and ``size`` of the picture in pixels."""
    variant = configs.variant(argument, clips=800, size=64)
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": {
                "name": "narrated_shapes",
                "split": "motion",
                "clips": variant.clips,
                "size": variant.size,
            },
            "label": "motion",
            "modality": "video",
        }
    )
