"""What is done? The actions of Kinetics by their names."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``split``; ``windows`` of a clip with their ``seconds``,
    ``fps`` and ``size`` of the picture, which should be those of training.
    """
    variant = configs.variant(
        argument, root="kinetics400", split="validation", windows=4, seconds=2.0, fps=4.0, size=112
    )
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "kinetics", **variant},
            "label": "action",
            "templates": ("{}", "a video of {}", "here we can see {}", "now someone is {}"),
        }
    )
