"""Pages of picture books, with the text of their neighbours, on stored ImageNet features.

A page's text tells only part of its picture, and with ``captions=3`` two of three texts are those
of the pages before and after, as narration out of step would be. Heads and text alone are trained,
in minutes on one core. The features are made as in ``configs/flickr8k_features.py``, and the words
are WordLlama's (docs/encoders.md)::

    for split in train dev; do
        python -m fgmm.data.features --weights=runs/efficientnet_lite0 --input=storybook.tar \
            --source=image_sequence:split=$split --output=storybook_features/$split
    done
    python -m fgmm.data.features --weights=runs/efficientnet_lite0 --input=storybook.tar \
        --source=image_sequence:split=train,candidates=3 --output=storybook_features/near
    python -m fgmm.main --workdir=runs/storybook_features \
        --config=configs/storybook_features.py:root=storybook_features,words=runs/wordllama
"""

import pathlib
import runpy

import ml_collections

from fgmm import components
from fgmm import config as configs

# Heads, text and terms are those on Flickr8k; that config lies beside this one.
_FEATURES = runpy.run_path(str(pathlib.Path(__file__).parent / "flickr8k_features.py"))
ARMS, CHEAPER_ARMS = _FEATURES["ARMS"], _FEATURES["CHEAPER_ARMS"]
VARIANTS = _FEATURES["VARIANTS"] | {"batch": 32, "examples": 12_800, "captions": 3}
PAGES = 2590
# The last of the training pages, which are those of whole stories. Rates and temperatures are tuned
# on them.
TUNING = 297


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: those of ``configs/flickr8k_features.py``, where ``root`` has the folders ``train``
    and ``dev`` of pages with their own text, and ``near`` of the training pages with three texts.

    - ``captions``: 1 for a page's own text, or how many of the three a step sees at once.
    - ``split``: of retrieval, always by a page's own text: ``tune`` for the last 297 training
      pages, which are then not trained on, or ``dev``.
    """
    variant = configs.variant(argument, root="storybook_features", **VARIANTS)
    configs.check_choices(variant, split=("tune", "dev"))
    if variant.captions > 3:
        raise configs.ConfigError(f"variant captions={variant.captions} must be at most 3")

    def pages(split: str, **part: int) -> dict[str, str | int]:
        return {"name": "features", "root": f"{variant.root}/{split}", **part}

    config = _FEATURES["heads_and_text"](
        variant,
        pages,
        clips=PAGES,
        tuning=TUNING,
        trained_on="train" if variant.captions == 1 else "near",
    )
    # A fifth of the texts are longer; their last phrases are left out in training.
    config.data.update(frames=1, height=7, width=7, features=1280, phrases=12, tokens=48)
    config.evals.retrieval.update(phrases=32, tokens=160)
    config.model.video = {"name": "features", "norm": "layer"}
    return components.complete(config)
