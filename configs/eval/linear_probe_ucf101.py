"""What is done? A linear probe on UCF101, by one of its three official splits."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``fold``, one of three splits; ``windows`` of a clip."""
    variant = configs.variant(argument, root="ucf101", fold=1, windows=10)
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
