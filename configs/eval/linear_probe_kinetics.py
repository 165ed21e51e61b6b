"""What is done? A linear probe on Kinetics, fitted to its training part."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` of the corpus; ``split`` to test on; ``windows`` of a clip."""
    variant = configs.variant(argument, root="kinetics400", split="validation", windows=1)
    test_source = {"name": "kinetics", **variant}
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": {**test_source, "split": "train"},
            "test_source": test_source,
            "label": "action",
        }
    )
