"""Coarse against fine on narrated shapes: the same encoders, corpus and examples, one loss an arm.

``launch/evidence.sh`` runs the whole comparison. The corpus is the quickstart's at 48 pixels, which
halves the time of a run.
"""

import ml_collections

from fgmm import components
from fgmm import config as configs

PAIRS = (("video_text", 1.0), ("video_audio", 0.5), ("audio_text", 0.5))

COARSE = {"name": "info_nce", "level": "coarse"}
SOFTMAX = {"name": "info_nce", "level": "fine", "pool": "softmax"}
LOGSUMEXP = {"name": "info_nce", "level": "fine", "pool": "logsumexp"}
WEIGHTED = {**SOFTMAX, "weighting": "softmax"}

# The terms on every pair, and the temperature that is tuned. With "weighted" a phrase counts by its
# score; everywhere else the phrases of a caption count alike.
ARMS = {
    "coarse": ({"coarse": COARSE}, "temperature"),
    "softmax": ({"fine": SOFTMAX}, "attention_temperature"),
    "logsumexp": ({"fine": LOGSUMEXP}, "attention_temperature"),
    "softmax_coarse": ({"coarse": COARSE, "fine": SOFTMAX}, "attention_temperature"),
    "weighted_coarse": ({"coarse": COARSE, "fine": WEIGHTED}, "phrase_temperature"),
}
DEFAULTS = {"temperature": 0.07, "attention_temperature": 0.1, "phrase_temperature": 1.0}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants.

    - ``arm``: one of ``ARMS``.
    - ``examples``: clips seen in training, whatever the batch.
    - ``rate``, ``temperature_times``, ``pool``: the learning rate, a factor of the arm's own
      temperature in ``DEFAULTS``, and how coarse embeddings are pooled.
    - ``corpus``: seed of the corpus that retrieval is measured on: 1 to tune, 0 to report.
    """
    variant = configs.variant(
        argument,
        arm="softmax_coarse",
        batch=32,
        examples=15_360,
        rate=8e-3,
        temperature_times=1.0,
        pool="mean",
        corpus=0,
    )
    if variant.arm not in ARMS:
        raise configs.ConfigError(
            f"variant arm={variant.arm!r} is unknown; allowed: {', '.join(ARMS)}"
        )
    config = configs.defaults()
    config.batch_size = variant.batch
    config.steps = variant.examples // variant.batch
    config.data.update(height=48, width=48, join_captions=True, phrases=8, tokens=48)
    config.data.source = {"name": "narrated_shapes", "split": "train", "size": 48, "noise": 0.5}

    config.model.video = {"name": "resnet2plus1d", "widths": (32, 64), "temporal_strides": (1, 2)}
    config.model.audio = {"name": "resnet", "widths": (16, 32, 64), "stem_stride": (4, 2)}
    config.model.text = {"name": "phrase_transformer", "width": 64, "context": "phrase"}
    config.model.spaces.joint.pool = variant.pool

    terms, tuned = ARMS[variant.arm]
    temperature = variant.temperature_times * DEFAULTS[tuned]
    for pair, weight in PAIRS:
        for name, term in terms.items():
            entry = {"pair": pair, "space": "joint", "weight": weight, **term}
            if tuned == "temperature" or name == "fine":
                entry[tuned] = temperature
            config.objective.terms[f"{name}_{pair}"] = entry

    config.optimizer.learning_rate = variant.rate
    config.optimizer.warmup_steps = config.steps // 10
    config.checkpoint.every_steps = config.steps
    config.evals.retrieval = {
        "name": "retrieval",
        "source": {
            "name": "narrated_shapes",
            "split": "retrieval",
            "size": 48,
            "clips": 512,
            "seed": variant.corpus,
        },
    }
    return components.complete(config)
