"""How much retrieval fewer negatives of the fine term cost, and how much time they save.

Each arm has a gated fine term and a gated coarse term, at a batch of 256. All captions are
negatives of the fine term, or fewer, as in ``CHEAPER_ARMS`` of ``configs/narrated_shapes.py``. All
arms see the same number of examples; their learning curves show what each reaches in the same time.
Rates are tuned for each arm.
"""

import pathlib
import runpy

import ml_collections

from fgmm import config as configs

# In the checkout and in the package, the configs of the cells are in the parent folder.
_SHAPES = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "narrated_shapes.py"))
ALL = "gated_both"
ARMS = {ALL: _SHAPES["ARMS"][ALL], **_SHAPES["CHEAPER_ARMS"]}
REPORTED = {"batch": 256, "evaluations": 3, "seed": (0, 1, 2)}
# By corpus: the defaults of a cell, the axes of the reported cells, and the axes that differ in
# tuning.
PARTS = {
    "flickr8k_features": (
        {"split": "dev", "captions": 1},
        {"examples": 18_000},
        {"examples": 18_000, "split": "tune", "rate": (2e-3, 4e-3, 8e-3)},
    ),
    "narrated_shapes": (
        {"corpus": 0, "noise": 0.5, "pairs": "video_text", "width": 0.5},
        {"updates": 160},
        {"updates": 60, "corpus": 1, "rate": (4e-3, 8e-3)},
    ),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``part``, one of ``PARTS``; ``arms``, of ``ARMS``, joined by ``+``."""
    variant = configs.variant(argument, part="flickr8k_features", arms="+".join(ARMS))
    configs.check_choices(variant, part=PARTS)
    arms = tuple(variant.arms.split("+"))
    for arm in arms:
        if arm not in ARMS:
            raise configs.ConfigError(f"arm {arm!r} is unknown; allowed: {', '.join(ARMS)}")
    defaults, reported, tried = PARTS[variant.part]
    grid = {"arm": arms, **REPORTED, **reported}
    tuning = {"arm": arms, **REPORTED, "seed": 100, "evaluations": 1, **tried}
    return ml_collections.ConfigDict(
        {
            "experiment": variant.part,
            "defaults": {"batch": 256, "rate": 2e-3, "evaluations": 3, **defaults},
            "arms": {
                name: {key: getattr(ARMS[name], key) for key in ("title", "family", "score")}
                for name in arms
            },
            "run": {"grids": [grid], "evaluations": (("retrieval", ""),)},
            "tune": {
                "grids": [tuning],
                "by": ("arm",),
                "chosen": ("rate",),
                "evaluations": (("retrieval", ""),),
            },
        }
    )
