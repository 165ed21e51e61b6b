"""Coarse against fine where a text is about a part of a clip: four images of Flickr8k are one clip.

A clip has the captions of its four images, 20 of them, and nothing says which is about which. A
step sees a few of them at once. The images, captions and features are real, those of
``configs/flickr8k_features.py``; that four make a clip is made up. Retrieval is among 250 such
clips of the dev images.
"""

import pathlib
import runpy

import ml_collections

from fgmm import config as configs

# The same study on single images; that config lies beside this one.
_FLICKR8K = runpy.run_path(str(pathlib.Path(__file__).parent / "flickr8k_features.py"))
ARMS = _FLICKR8K["ARMS"]
SHOWN = 4
PARTS = {"wrong": {"wrong": (0.0, 0.5)}}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``part``: one of ``PARTS``.
    - ``arms``: of ``ARMS`` of ``configs/narrated_shapes.py``, joined by ``+``; ``all`` for every
      one.
    - ``examples``: clips seen in training; one epoch is 1,500.
    - ``captions``: how many of a clip's captions a step uses; several numbers joined by ``+``.
    - ``words``: as in ``configs/flickr8k_features.py``.
    """
    variant = configs.variant(
        argument,
        part="wrong",
        arms="coarse_mean+gated_both",
        examples=6000,
        captions="8",
        words="",
    )
    configs.check_choices(variant, part=PARTS)
    grid = {
        "batch": 32,
        "captions": _FLICKR8K["numbers"](variant.captions),
        "words": variant.words,
        **PARTS[variant.part],
    }
    return _FLICKR8K["study"](
        "flickr8k_features",
        variant,
        grid,
        {"wrong": 0.5},
        batch=32,
        captions=8,
        shown=SHOWN,
    )
