"""The classes of a corpus that ``fgmm.data.prepare`` wrote, by their names."""

import ml_collections

from fgmm import config as configs

TEMPLATES = {
    "video": ("{}", "a video of {}", "somebody is doing {}"),
    "audio": ("{}", "the sound of {}", "here we can hear {}"),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` and ``split``; the kind of ``label`` and the ``modality``; ``windows`` of
    a recording.
    """
    variant = configs.variant(
        argument,
        root="prepared",
        split="whole",
        label="action",
        modality="video",
        windows=2,
    )
    if variant.modality not in TEMPLATES:
        raise configs.ConfigError(
            f"variant modality={variant.modality!r} is unknown; allowed: {', '.join(TEMPLATES)}"
        )
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {
                "name": "prepared",
                "root": variant.root,
                "split": variant.split,
                "windows": variant.windows,
            },
            "label": variant.label,
            "modality": variant.modality,
            "templates": TEMPLATES[variant.modality],
        }
    )
