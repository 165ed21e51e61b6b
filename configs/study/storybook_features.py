"""Coarse against fine on pages of picture books, with their own text and with that of neighbours.

The arms and all axes are those of ``configs/storybook_features.py``, which says how to make the
features; the study looks for them in the folder in which it is started. Rates and temperatures are
tuned on 297 of the training pages, which are then left out of training. No text is made wrong:
``own`` has a page's text, and ``near`` those of the pages before and after as well.
"""

import pathlib
import runpy

import ml_collections

from fgmm import config as configs

# The same study on other pictures; that config lies beside this one.
_FLICKR8K = runpy.run_path(str(pathlib.Path(__file__).parent / "flickr8k_features.py"))
ARMS = _FLICKR8K["ARMS"]
PARTS = {"near": (3,), "own": (1,)}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``part``: one of ``PARTS``.
    - ``arms``: of ``ARMS`` of ``configs/narrated_shapes.py``, joined by ``+``; ``all`` for every
      one. Those with bags have no place in the part ``own``.
    - ``examples``: pages seen in training; one epoch is 2,590.
    - ``words``: as in ``configs/storybook_features.py``.
    """
    variant = configs.variant(
        argument, part="near", arms="coarse_mean+gated_both", examples=12_800, words=""
    )
    configs.check_choices(variant, part=PARTS)
    grid = {"batch": 32, "captions": PARTS[variant.part], "words": variant.words}
    return _FLICKR8K["study"]("storybook_features", variant, grid, {}, batch=32, captions=3)
