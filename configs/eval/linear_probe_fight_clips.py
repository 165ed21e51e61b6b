"""Is it a fight? A linear probe on clips of surveillance cameras, five folds by source video."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``modality``; ``windows`` of a clip."""
    variant = configs.variant(argument, root="fight_clips.tar", modality="video", windows=2)
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": {
                "name": "fight_clips",
                "root": variant.root,
                "windows": variant.windows,
            },
            "label": "action",
            "modality": variant.modality,
            "folds": 5,
        }
    )
