"""What is done? The actions of UCF101 by their names, on a test part of its three."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``fold``, which of the three splits; ``windows`` of a clip
    with their ``seconds``, ``fps`` and ``size`` of the picture, which should be those of training.
    """
    variant = configs.variant(
        argument, root="ucf101", fold=1, windows=4, seconds=2.0, fps=4.0, size=112
    )
    return ml_collections.ConfigDict(
        {
            "name": "zero_shot",
            "source": {"name": "ucf101", "split": "test", **variant},
            "label": "action",
            "templates": ("{}", "a video of {}", "here we can see {}", "now someone starts to {}"),
        }
    )
