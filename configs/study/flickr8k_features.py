"""Coarse against fine on Flickr8k with frozen ImageNet features, captions clean and partly wrong.

The arms and all axes are those of ``configs/flickr8k_features.py``, which says how to make the
features and the tokenizer; the study looks for both in the folder in which it is started. Rates and
temperatures are tuned on 1,000 of the training images, which are then left out of training. The
reported results are on the official dev images, since the test images are not always available.
"""

import pathlib
import runpy
from typing import Any

import ml_collections

from fgmm import config as configs

# In the checkout and in the package, the config of the cells is in the parent folder.
_CELL = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "flickr8k_features.py"))
ARMS = _CELL["ARMS"]
# The temperatures that are tried beside the rates, as many cells for each arm. In coarse arms
# ``temperature_times`` multiplies the temperature of the loss.
TEMPERATURES = {
    "coarse": (
        {"rate": 2e-3, "temperature_times": (0.5, 2.0, 4.0)},
        {"rate": 1e-3, "temperature_times": 2.0},
    ),
    "fine": (
        {"rate": 2e-3, "temperature_times": (0.25, 0.5, 2.0)},
        {"rate": 1e-3, "temperature_times": 0.5},
    ),
    "fine beside coarse": (
        {"rate": 2e-3, "temperature_times": (0.5, 2.0)},
        {"rate": (1e-3, 2e-3), "temperature_times": 0.5, "coarse_times": 2.0},
    ),
}
PARTS = {
    "wrong": {"batch": 32, "wrong": (0.0, 0.25, 0.5, 0.75)},
    "batches": {"batch": (32, 128, 512), "wrong": (0.0, 0.5)},
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``part``: one of ``PARTS``.
    - ``arms``: of ``ARMS`` of ``configs/flickr8k_features.py``, joined by ``+``; ``all`` for
      every one. Those with bags need ``captions`` above 1.
    - ``examples``: images seen in training; one epoch is 6,000.
    - ``captions``: how many captions of an image a step uses; several numbers joined by ``+``.
    - ``words``: as in ``configs/flickr8k_features.py``.
    """
    variant = configs.variant(
        argument,
        part="wrong",
        arms="coarse_mean+coarse_gate+gated+gated_both",
        examples=36_000,
        captions="1",
        words="",
    )
    configs.check_choices(variant, part=PARTS)
    captions = numbers(variant.captions)
    grid = PARTS[variant.part] | {"captions": captions, "words": variant.words}
    # Tuning has one share of wrong captions.
    return study("flickr8k_features", variant, grid, {"wrong": 0.5}, batch=128, captions=1)


def numbers(text: str | int) -> tuple[int, ...]:
    """What the variant ``captions`` says: whole numbers above 0, joined by ``+``.

    Raises:
      ConfigError: it says something else.
    """
    found = str(text).split("+")
    if not all(number.isdecimal() and int(number) for number in found):
        raise configs.ConfigError(
            f"variant captions={text!r} must be whole numbers above 0, joined by +"
        )
    return tuple(map(int, found))


def study(
    experiment: str,
    variant: ml_collections.ConfigDict,
    grid: dict[str, Any],
    tuned: dict[str, Any],
    **defaults: Any,
) -> ml_collections.ConfigDict:
    """A study of heads and text on stored features.

    Args:
      experiment: the config of the cells.
      variant: with the keys ``arms`` and ``examples``.
      grid: the other axes, ``captions`` among them.
      tuned: axes that have another value in tuning.
      defaults: of the cells, where they are not those that all such studies have.

    Raises:
      ConfigError: an arm is unknown, or needs several captions.
    """
    fewest = min(grid["captions"])
    usable = [name for name, arm in ARMS.items() if fewest > 1 or not arm.has_bags]
    arms = tuple(usable) if variant.arms == "all" else tuple(variant.arms.split("+"))
    for arm in arms:
        if arm not in usable:
            raise configs.ConfigError(
                f"arm {arm!r} is unknown with captions={fewest}; allowed: {', '.join(usable)}"
            )
    grid = grid | {"arm": arms, "examples": variant.examples, "seed": (0, 1, 2)}
    tried = grid | {"examples": variant.examples // 2, "split": "tune", "seed": 100} | tuned
    return ml_collections.ConfigDict(
        {
            "experiment": experiment,
            "defaults": {
                "rate": 1e-3,
                "temperature_times": 1.0,
                "coarse_times": 1.0,
                "words": "",
                "wrong": 0.0,
                "split": "dev",
                "evaluations": 1,
                **defaults,
            },
            "arms": {
                name: {key: getattr(ARMS[name], key) for key in ("title", "family", "score")}
                for name in arms
            },
            "run": {"grids": [grid], "evaluations": (("retrieval", ""),)},
            "tune": {
                "grids": [
                    tried | {"arm": arm, **values}
                    for arm in arms
                    for values in ({"rate": (5e-4, 1e-3, 2e-3, 4e-3)}, *_temperatures(arm))
                ],
                "by": ("arm", "batch", "captions", "words"),
                "chosen": ("rate", "temperature_times", "coarse_times"),
                "evaluations": (("retrieval", ""),),
            },
        }
    )


def _temperatures(arm: str) -> tuple[dict[str, Any], ...]:
    levels = {term.get("level") for term in ARMS[arm].terms.values()}
    beside = " beside coarse" if ARMS[arm].family == "fine" and "coarse" in levels else ""
    return TEMPERATURES[f"{ARMS[arm].family}{beside}"]
