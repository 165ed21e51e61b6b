"""Is it a fight? Classes of clips of surveillance cameras by their names."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``modality``; ``windows`` of a clip."""
    variant = configs.variant(argument, root="fight_clips.tar", modality="video", windows=2)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {
                "name": "fight_clips",
                "root": variant.root,
                "windows": variant.windows,
            },
            "label": "action",
            "modality": variant.modality,
            "templates": (
                "{}",
                "a video of {}",
                "here we can see {}",
                "{}, seen by a surveillance camera",
            ),
            "words": {"fight": "people fighting", "noFight": "people walking around calmly"},
        }
    )
