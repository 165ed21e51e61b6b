"""What is heard? Classes of environmental sounds, ESC-50, by their names."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``windows`` of a recording."""
    variant = configs.variant(argument, root="ESC-50-master", windows=3)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "esc50", **variant},
            "label": "sound",
            "modality": "audio",
            "templates": ("{}", "the sound of {}", "here we can hear {}", "listen, it is {}"),
        }
    )
