"""Coarse against fine on narrated shapes: which cells are trained and how they are judged.

The arms and all axes are those of ``configs/narrated_shapes.py``. The parts, with the cells that
each takes for P pair sets and A arms: ``screen``, all arms at the base point with one seed;
``star``, one axis at a time around the base point; ``product``, batch by noise; ``plateau``, coarse
and fine with four times the updates; ``short``, one comparison in six short cells.
"""

import pathlib
import runpy

import ml_collections

from fgmm import config as configs

# The cells' config lies beside this folder, in the checkout and in the package.
ARMS = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "narrated_shapes.py"))["ARMS"]
BASE = {"batch": 32, "noise": 0.5, "updates": 480, "seed": (0, 1, 2)}
BATCHES = (8, 32, 128)
PARTS = {
    "screen": [BASE | {"seed": 0}],
    "star": [
        BASE | {"batch": (8, 32, 128, 256)},
        BASE | {"noise": (0.0, 0.5, 0.75)},
        BASE | {"updates": (120, 480, 1920)},
        BASE | {"width": (0.5, 1.0, 2.0)},
        BASE | {"clutter": (0, 1, 4)},
    ],
    "product": [
        BASE | {"batch": BATCHES, "noise": (0.0, 0.5, 0.75)},
        # As many examples as 480 updates at a batch of 32.
        {"batch": BATCHES, "noise": 0.5, "examples": 15_360, "seed": (0, 1, 2)},
    ],
    "plateau": [BASE | {"batch": BATCHES, "updates": 1920}],
}
# The updates and rates of tuning, by batch: seven cells for every arm, pair set and batch. A small
# batch needs more updates until anything is learned, and lower rates.
TUNED = {
    8: (960, (2.5e-4, 5e-4, 1e-3, 2e-3)),
    32: (240, (1e-3, 2e-3, 4e-3, 8e-3)),
    128: (120, (1e-3, 2e-3, 4e-3, 8e-3)),
    256: (60, (1e-3, 2e-3, 4e-3, 8e-3)),
}
# The rate of each family in ``short``: what tuning chose for an arm of this family.
SHORT = {"batch": 32, "noise": 0.5, "updates": 240, "evaluations": 1, "seed": (0, 1, 2)}
SHORT_RATES = {"fine": 4e-3, "coarse": 2e-3}
MOTION = "eval/linear_probe:corpus=motion,size=48"


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``part``: one of ``PARTS``, or ``short``.
    - ``arms``: of ``configs.narrated_shapes.ARMS``, joined by ``+``; ``all`` for every one.
    - ``pairs``: sets of pairs, joined by ``+``.
    - ``fine``, ``coarse``: the arms of ``short``, compared at a batch of 32.
    """
    variant = configs.variant(
        argument,
        part="product",
        arms="all",
        pairs="video_text+audio_text+all",
        fine="gated_both",
        coarse="coarse_mean",
    )
    if variant.part not in (*PARTS, "short"):
        raise configs.ConfigError(
            f"variant part={variant.part!r} is unknown; allowed: {', '.join(PARTS)}, short"
        )
    arms = tuple(ARMS) if variant.arms == "all" else tuple(variant.arms.split("+"))
    pairs = tuple(variant.pairs.split("+"))
    if variant.part == "short":
        arms, pairs = (variant.coarse, variant.fine), ("video_text",)
        grids = [
            SHORT | {"arm": variant[family], "pairs": pairs, "rate": rate}
            for family, rate in SHORT_RATES.items()
        ]
    else:
        grids = [grid | {"arm": arms, "pairs": pairs} for grid in PARTS[variant.part]]
    for arm in arms:
        if arm not in ARMS:
            raise configs.ConfigError(f"arm {arm!r} is unknown; allowed: {', '.join(ARMS)}")
    study = {
        "experiment": "narrated_shapes",
        # Values of axes that a grid leaves out. Names of results have only axes that differ.
        "defaults": {
            "pairs": "video_text",
            "batch": 32,
            "noise": 0.5,
            "clutter": 1,
            "width": 1.0,
            "rate": 4e-3,
            "temperature_times": 1.0,
            "corpus": 0,
            "evaluations": 6,
        },
        "arms": {
            name: {key: getattr(ARMS[name], key) for key in ("title", "family", "score")}
            for name in arms
        },
        "run": {"grids": grids, "evaluations": (("retrieval", ""), ("linear_probe", MOTION))},
    }
    if variant.part == "short":
        study["run"]["evaluations"] = (("retrieval", ""),)
    else:
        batches = {
            batch
            for grid in grids
            for batch in (grid["batch"] if isinstance(grid["batch"], tuple) else (grid["batch"],))
        }
        tried = {"arm": arms, "pairs": pairs, "corpus": 1, "seed": 100, "evaluations": 1}
        study["tune"] = {
            "grids": [
                tried | {"batch": batch, "updates": updates, **tuned}
                for batch, (updates, rates) in TUNED.items()
                if batch in batches
                for tuned in (
                    {"rate": rates, "temperature_times": 1.0},
                    {"rate": rates[-2], "temperature_times": (0.25, 0.5, 2.0)},
                )
            ],
            # A choice holds for all cells that agree in these axes.
            "by": ("arm", "pairs", "batch"),
            "chosen": ("rate", "temperature_times"),
            "evaluations": (("retrieval", ""),),
        }
    return ml_collections.ConfigDict(study)
