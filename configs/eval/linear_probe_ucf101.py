"""What is done? A linear probe on UCF101, by one of its three official splits."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``fold``, which of the three splits; ``windows`` of a clip
    with their ``seconds``, ``fps`` and ``size`` of the picture, which should be those of training.
    """
    variant = configs.variant(
        argument, root="ucf101", fold=1, windows=10, seconds=2.0, fps=4.0, size=112
    )
    source = {"name": "ucf101", "split": "train", **variant}
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": source,
            "test_source": {**source, "split": "test"},
            "label": "action",
            "classifier": "linear_svm",
        }
    )
