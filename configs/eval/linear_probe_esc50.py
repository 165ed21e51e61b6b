"""What is heard? A linear probe on ESC-50, environmental sounds, in its five official folds."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``windows`` of a recording."""
    variant = configs.variant(argument, root="ESC-50-master", windows=3)
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": {"name": "esc50", **variant},
            "label": "sound",
            "modality": "audio",
            "folds": 5,
        }
    )
