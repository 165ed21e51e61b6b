"""Coarse against fine on narrated shapes: which cells are trained and how they are judged.

The arms and all axes are those of ``configs/narrated_shapes.py``. The parts are ``screen``, all
arms at the base point with one seed; ``star``, one axis at a time around the base point;
``product``, all combinations of batch and noise; ``plateau``, four times the updates at each batch;
and ``short``, one coarse and one fine arm at the base point alone, without tuning.
"""

import pathlib
import runpy

import ml_collections

from fgmm import config as configs

# In the checkout and in the package, the config of the cells is in the parent folder.
_CELL = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "narrated_shapes.py"))
ARMS, PAIRS = _CELL["ARMS"], _CELL["PAIRS"]
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
        # As many examples as 480 updates of 32 take.
        {"batch": BATCHES, "noise": (0.0, 0.5), "examples": 15_360, "seed": (0, 1, 2)},
    ],
    "plateau": [BASE | {"batch": BATCHES, "updates": 1920}],
}
# By batch, the updates and the rates of tuning, which has seven cells for each arm, pair set and
# batch. A small batch needs more updates before it learns anything, and lower rates.
TUNED = {
    8: (960, (2.5e-4, 5e-4, 1e-3, 2e-3)),
    32: (240, (1e-3, 2e-3, 4e-3, 8e-3)),
    128: (120, (1e-3, 2e-3, 4e-3, 8e-3)),
    256: (60, (1e-3, 2e-3, 4e-3, 8e-3)),
}
# By family, what tuning chose for the default arms.
SHORT = {
    "fine": BASE | {"evaluations": 1, "rate": 4e-3, "temperature_times": 0.5},
    "coarse": BASE | {"evaluations": 1, "rate": 2e-3},
}
MOTION = "eval/linear_probe:corpus=motion,size=48"


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``part``: one of ``PARTS``, or ``short``.
    - ``arms``: of ``configs.narrated_shapes.ARMS``, joined by ``+``; ``all`` for every one. Not
      used by ``short``.
    - ``pairs``: of ``configs.narrated_shapes.PAIRS``, joined by ``+``. Not used by ``short``.
    - ``tuned_on``: the one pair set that rates and temperatures of all pair sets are tuned on;
      empty to tune for each pair set. Not used by ``short``.
    - ``fine``, ``coarse``: the two arms of ``short``, which are compared at a batch of 32.
    """
    variant = configs.variant(
        argument,
        part="product",
        arms="all",
        pairs="video_text+audio_text+all",
        tuned_on="",
        fine="gated_both",
        coarse="coarse_mean",
    )
    configs.check_choices(variant, part=(*PARTS, "short"))
    arms = tuple(ARMS) if variant.arms == "all" else tuple(variant.arms.split("+"))
    pairs = tuple(variant.pairs.split("+"))
    if variant.part == "short":
        arms, pairs = (variant.coarse, variant.fine), ("video_text",)
        grids = [grid | {"arm": variant[family], "pairs": pairs} for family, grid in SHORT.items()]
    else:
        grids = [grid | {"arm": arms, "pairs": pairs} for grid in PARTS[variant.part]]
    for arm in arms:
        if arm not in ARMS:
            raise configs.ConfigError(f"arm {arm!r} is unknown; allowed: {', '.join(ARMS)}")
    for found in (*pairs, *([variant.tuned_on] if variant.tuned_on else [])):
        if found not in PAIRS:
            raise configs.ConfigError(f"pair set {found!r} is unknown; allowed: {', '.join(PAIRS)}")
    study = {
        "experiment": "narrated_shapes",
        # The values where a grid gives none. The name of a cell tells the values that differ.
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
        tried = {
            "arm": arms,
            "pairs": variant.tuned_on or pairs,
            "corpus": 1,
            "seed": 100,
            "evaluations": 1,
        }
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
            # A choice holds for all cells that agree on these axes.
            "by": ("arm", "batch") if variant.tuned_on else ("arm", "pairs", "batch"),
            "chosen": ("rate", "temperature_times"),
            "evaluations": (("retrieval", ""),),
        }
    return ml_collections.ConfigDict(study)
