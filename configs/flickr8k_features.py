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

import ml_collections

from fgmm import components
from fgmm import config as configs

# The arms are compared on narrated shapes as well; that config lies beside this one.
_SHAPES = runpy.run_path(str(pathlib.Path(__file__).parent / "narrated_shapes.py"))
ARMS, GATED = _SHAPES["ARMS"], _SHAPES["GATED"]
IMAGES = 6000
# Of the training images, those that rates and temperatures are tuned on.
TUNING = 1000


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``root``: the folder of the features, with a folder for each split; ``tokenizer``: its file.
    - ``arm``: one of ``configs.narrated_shapes.ARMS``.
    - ``batch``; ``examples``, images seen in training, each with ``captions`` of its captions;
      ``rate``, of learning.
    - ``temperature_times``: factor of the temperature of the arm that is tuned.
    - ``captions``: how many of an image's five captions a step sees at once; the scores of an image
      are means over them.
    - ``wrong``: share of the training captions that are taken from other images.
    - ``seed``: of the run and of the wrong captions.
    - ``split``: of retrieval: ``tune`` for the last 1,000 training images, which are then not
      trained on; ``dev``, or ``test`` where there are features of it, to report.
    - ``evaluations``: how often retrieval is measured, the end included.
    """
    variant = configs.variant(
        argument,
        root="flickr8k_features",
        tokenizer="flickr8k.model",
        arm="gated_both",
        batch=128,
        examples=18_000,
        rate=1e-3,
        temperature_times=1.0,
        captions=1,
        wrong=0.0,
        seed=0,
        split="dev",
        evaluations=1,
    )
    for key, allowed in (("arm", ARMS), ("split", ("tune", "dev", "test"))):
        if variant[key] not in allowed:
            raise configs.ConfigError(
                f"variant {key}={variant[key]!r} is unknown; allowed: {', '.join(allowed)}"
            )
    for key in ("batch", "examples", "captions", "evaluations"):
        if variant[key] <= 0:
            raise configs.ConfigError(f"variant {key}={variant[key]} must be above 0")
    arm = ARMS[variant.arm]
    config = configs.defaults()
    config.seed, config.batch_size = variant.seed, variant.batch
    config.steps = max(1, variant.examples // variant.batch)

    def features(split: str, **part: int) -> dict[str, str | int]:
        return {"name": "features", "root": f"{variant.root}/{split}", **part}

    trained, ranked = features("train"), features(variant.split)
    if variant.split == "tune":
        trained = features("train", stop=IMAGES - TUNING)
        ranked = features("train", start=IMAGES - TUNING, stop=IMAGES)
    config.data.source = trained
    if variant.wrong:
        config.data.source = {
            "name": "wrong_captions",
            "source": trained,
            "share": variant.wrong,
            "seed": variant.seed,
        }
    config.data.update(frames=1, height=7, width=7, features=1280)
    config.data.update(captions=variant.captions, phrases=6, tokens=24, tokenizer=variant.tokenizer)

    config.model.video = {"name": "features", "norm": "layer"}
    config.model.text = {"name": "phrase_transformer", "width": 128, "context": "phrase"}
    config.model.spaces.joint.update(modalities=("video", "text"), width=256, pool=arm.pool)
    if arm.pool == "gate" or GATED in arm.terms.values():
        config.model.spaces.joint.gate = "linear"

    for name, term in arm.terms.items():
        entry = {"pair": "video_text", "space": "joint", **term}
        if arm.tuned in entry:
            entry[arm.tuned] *= variant.temperature_times
        config.objective.terms[name] = entry

    config.objective.score = arm.score
    config.optimizer.learning_rate = variant.rate
    config.checkpoint.every_steps = config.steps
    config.evals.retrieval = {
        "name": "retrieval",
        "every": max(1, config.steps // variant.evaluations),
        # Some captions are far longer than most.
        "phrases": 24,
        "tokens": 96,
        "source": ranked,
    }
    return components.complete(config)
