"""What does an encoder know of the classes of a corpus that ``fgmm.data.prepare`` wrote?"""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root`` and ``split``; ``test``, a split to test on, or empty for ``folds``, which
    keep groups; the kind of ``label`` and the ``modality``; ``windows`` of a recording.
    """
    variant = configs.variant(
        argument,
        root="prepared",
        split="whole",
        test="",
        label="action",
        modality="video",
        folds=5,
        windows=2,
    )
    source = {
        "name": "prepared",
        "root": variant.root,
        "windows": variant.windows,
    }
    return ml_collections.ConfigDict(
        {
            "name": "linear_probe",
            "source": {**source, "split": variant.split},
            "test_source": {**source, "split": variant.test} if variant.test else {},
            "label": variant.label,
            "modality": variant.modality,
            "folds": variant.folds,
        }
    )
