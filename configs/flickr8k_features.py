"""Flickr8k on stored ImageNet features: heads and text alone are trained, in minutes on one core.

The features are those of EfficientNet-Lite0; docs/encoders.md says where its weights are::

    python -m fgmm.convert --from=efficientnet-lite0-57934424.pth --output=runs/efficientnet_lite0
    for split in train dev; do
        python -m fgmm.data.features --weights=runs/efficientnet_lite0 \
            --source=flickr8k:split=$split --input=flickr8k.tar --output=flickr8k_features/$split
    done
    python -m fgmm.data.tokenizer train --source=flickr8k --option=root=flickr8k.tar \
        --vocabulary_size=4000 --output=flickr8k.model
    python -m fgmm.main \
        --config=configs/flickr8k_features.py:root=flickr8k_features,tokenizer=flickr8k.model \
        --workdir=runs/flickr8k_features
"""

import pathlib
import runpy
from collections.abc import Callable
from typing import Any

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.train.checkpoint import TOKENIZER, config_of

# The arms are compared on narrated shapes as well; that config lies beside this one.
_SHAPES = runpy.run_path(str(pathlib.Path(__file__).parent / "narrated_shapes.py"))
ARMS, CHEAPER_ARMS = _SHAPES["ARMS"], _SHAPES["CHEAPER_ARMS"]
IMAGES = 6000
# The last of the training images, which rates and temperatures are tuned on.
TUNING = 1000
VARIANTS = {
    "tokenizer": "flickr8k.model",
    "words": "",
    "start": "",
    "arm": "gated_both",
    "batch": 128,
    "examples": 18_000,
    "rate": 1e-3,
    "temperature_times": 1.0,
    "coarse_times": 1.0,
    "captions": 1,
    "wrong": 0.0,
    "seed": 0,
    "split": "dev",
    "evaluations": 1,
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``root``: the folder of the features, with a folder for each split; ``tokenizer``: its file.
    - ``words``: the folder of WordLlama's converted embeddings; text starts from these and has
      their tokenizer. With "", words are learned from the captions alone.
    - ``start``: the folder of a run of this config that heads and text start from.
    - ``arm``: one of ``ARMS`` or ``CHEAPER_ARMS`` of ``configs/narrated_shapes.py``; those with
      bags need several ``captions``.
    - ``batch``; ``examples``, images seen in training, each with ``captions`` of its captions;
      ``rate``, of learning.
    - ``temperature_times``: factor of the arm's tuned temperature; ``coarse_times``: that of the
      temperature of coarse losses.
    - ``captions``: how many of an image's five captions a step sees at once; the scores of an image
      are means over them.
    - ``wrong``: share of the training captions that are taken from other images.
    - ``seed``: of the run and of the wrong captions.
    - ``split``: of retrieval: ``tune`` for the last 1,000 training images, which are then not
      trained on; ``dev``, or ``test`` where there are features of it, to report.
    - ``evaluations``: how often retrieval is measured, the end included.
    - ``shown``: how many images are one clip, with the captions of all of them, in training and in
      retrieval; ``captions`` are then of all of them together. See the source ``slideshow``.
    """
    variant = configs.variant(argument, root="flickr8k_features", shown=1, **VARIANTS)

    def features(split: str, **part: int) -> dict[str, str | int]:
        return {"name": "features", "root": f"{variant.root}/{split}", **part}

    if variant.shown <= 0:
        raise configs.ConfigError(f"variant shown={variant.shown} must be above 0")
    config = heads_and_text(variant, features, shown=variant.shown)
    config.data.update(frames=variant.shown, height=7, width=7, features=1280)
    config.model.video = {"name": "features", "norm": "layer"}
    return components.complete(config)


def heads_and_text(
    variant: ml_collections.ConfigDict,
    images: Callable[..., dict[str, Any]],
    *,
    clips: int = IMAGES,
    tuning: int = TUNING,
    trained_on: str = "train",
    shown: int = 1,
) -> ml_collections.ConfigDict:
    """The config without the video encoder and the sizes of its input.

    Args:
      variant: with the keys of ``VARIANTS``.
      images: the source of a split, or of a part of it from ``start`` to ``stop``.
      clips: of the split ``train``; ``tuning`` of them, the last, are those of ``split=tune``.
      trained_on: the split to train on, with the clips of ``train``.
      shown: how many images are one clip.

    Raises:
      ConfigError: a variant is unknown or out of bounds.
    """
    configs.check_choices(variant, arm=ARMS | CHEAPER_ARMS, split=("tune", "dev", "test"))
    for key in ("batch", "examples", "captions", "evaluations"):
        if variant[key] <= 0:
            raise configs.ConfigError(f"variant {key}={variant[key]} must be above 0")
    arm = (ARMS | CHEAPER_ARMS)[variant.arm]
    if arm.has_bags and variant.captions == 1:
        raise configs.ConfigError(f"variant arm={variant.arm!r} needs captions above 1; got 1")
    config = configs.defaults()
    config.seed, config.batch_size = variant.seed, variant.batch
    config.steps = max(1, variant.examples // variant.batch)

    if variant.split == "tune":
        trained = images(trained_on, stop=clips - tuning)
        ranked = images("train", start=clips - tuning, stop=clips)
    else:
        trained, ranked = images(trained_on), images(variant.split)
    config.data.source = trained
    if variant.wrong:
        config.data.source = {
            "name": "wrong_captions",
            "source": trained,
            "share": variant.wrong,
            "seed": variant.seed,
        }
    if shown > 1:
        group = {"name": "slideshow", "shown": shown}
        config.data.source = {**group, "source": config.data.source.to_dict()}
        ranked = {**group, "source": ranked}
    config.data.update(captions=variant.captions, phrases=6, tokens=24, tokenizer=variant.tokenizer)

    config.model.text = {"name": "phrase_transformer", "width": 128, "context": "phrase"}
    if variant.words:
        if variant.tokenizer != VARIANTS["tokenizer"]:
            raise configs.ConfigError(
                f"variant words={variant.words!r} has a tokenizer of its own; leave tokenizer out"
            )
        config.data.tokenizer = f"{variant.words}/{TOKENIZER}"
        width = config_of(variant.words).model.text.width
        config.model.text = {"name": "phrase_bag", "width": width}
        if not variant.start:
            config.init_from.also.words = {
                "path": variant.words,
                "rules": (("model/encoders_text/word_embd/.*", "load"), (".*", "initialise")),
            }
    if variant.start:
        config.init_from.also.start = {"path": variant.start}
    config.model.spaces.joint.update(modalities=("video", "text"), width=256, pool=arm.pool)
    if arm.has_gates:
        config.model.spaces.joint.gate = "linear"

    for name, term in arm.terms.items():
        entry = {"pair": "video_text", "space": "joint", **term}
        config.objective.terms[name] = arm.tempered(
            entry, variant.temperature_times, variant.coarse_times
        )

    config.objective.score = arm.score
    config.optimizer.learning_rate = variant.rate
    config.checkpoint.every_steps = config.steps
    config.evals.retrieval = {
        "name": "retrieval",
        "every": max(1, config.steps // variant.evaluations),
        "captions": 5 * shown,
        # Some captions are far longer than most.
        "phrases": 24,
        "tokens": 96,
        "source": ranked,
    }
    return config
