"""What is done? The actions of UCF101 by their names, on a test part of its three."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``fold``, one of three splits; ``windows`` of a clip."""
    variant = configs.variant(argument, root="ucf101", fold=1, windows=4)
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "ucf101", "split": "test", **variant},
            "label": "action",
            "templates": ("{}", "a video of {}", "here we can see {}", "now someone starts to {}"),
        }
    )
