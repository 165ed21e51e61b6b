"""What is done? The actions of Kinetics by their names."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``split``; ``windows`` of a clip."""
    variant = configs.variant(argument, root="kinetics400", split="validation", windows=4)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "kinetics", **variant},
            "label": "action",
            "templates": ("{}", "a video of {}", "here we can see {}", "now someone is {}"),
        }
    )
