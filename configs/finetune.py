"""One training of the fine-tuning protocol by itself, with its test at the end.

``configs/eval/finetune.py`` has the protocol and its recipe, and ``python -m fgmm.eval.finetune``
runs all of its trainings. This config runs one of them, as on a machine of its own::

    python -m fgmm.main --workdir=runs/esc50_fold1 \
        --config=configs/finetune.py:checkpoint=runs/a,corpus=esc50,root=ESC-50-master,part=1
"""

import pathlib
import runpy

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.config.variants import given, without
from fgmm.eval import finetune
from fgmm.train.checkpoint import config_of

# The protocol; that config lies in the folder beside this one.
_PROTOCOL = runpy.run_path(str(pathlib.Path(__file__).parent / "eval" / "finetune.py"))
_OWN = {"checkpoint": "runs/pretrained", "step": "latest", "part": 1, "random": False, "seed": 0}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: those of ``configs/eval/finetune.py``, ``corpus`` among them; and ``checkpoint``,
    the folder of the run to start from, and its ``step``; ``part``, the number of the fold or split
    that is the test, from 1; ``random`` to start from random parameters instead; ``seed`` of the
    training.
    """
    own = ",".join(f"{key}={given(argument, key)}" for key in _OWN if given(argument, key))
    variant = configs.variant(own, **_OWN)
    entry = configs.plain(_PROTOCOL["get_config"](without(argument, *_OWN)))
    options = components.build("eval", entry, key="finetune")
    parts = finetune.parts(options)
    if not 1 <= variant.part <= len(parts):
        raise configs.ConfigError(f"variant part={variant.part} must be from 1 to {len(parts)}")
    start = {"path": variant.checkpoint, "step": variant.step, "weights": ""}
    config, _ = finetune.training_config(
        options,
        config_of(variant.checkpoint),
        None if variant.random else start,
        parts[variant.part - 1],
        variant.seed,
    )
    return config
