"""One cell of the study on narrated shapes: the same encoders and corpus, one objective per arm.

``configs/study/narrated_shapes.py`` names this file and says which cells are trained. Pictures are
48 x 48 pixels and not 64 x 64 as in the quickstart, which halves the time of a run.
"""

from typing import Any, NamedTuple

import ml_collections

from fgmm import components
from fgmm import config as configs

# The weights of the pairs that are trained, by the name of the pair set.
PAIRS = {
    "video_text": {"video_text": 1.0},
    "audio_text": {"audio_text": 1.0},
    "all": {"video_text": 1.0, "video_audio": 0.5, "audio_text": 0.5},
}
RETRIEVED = ("video_text", "audio_text")

COARSE = {"name": "info_nce", "level": "coarse", "temperature": 0.07}
BAG = COARSE | {"name": "mil_nce"}
FINE = COARSE | {"level": "fine", "attention_temperature": 0.1}
SOFTMAX = FINE | {"pool": "softmax"}
LOGSUMEXP = FINE | {"pool": "logsumexp"}
SYMMETRIC = LOGSUMEXP | {"direction": "symmetric"}
GATED = SYMMETRIC | {"weighting": "learned"}


class Arm(NamedTuple):
    """An objective that is compared with those of the other arms.

    Attributes:
      title: of its row in tables.
      family: "coarse" or "fine": fine arms are compared with the best coarse one.
      score: the score of retrieval by which the arm is judged.
      terms: of the objective, on every pair.
      tuned: the option that ``temperature_times`` multiplies, in all terms that set it.
      pool: of coarse embeddings.
      has_bags: whether the captions of a clip stay apart, as a bag of which some are right. All
        other arms take them joined, or one by one.
    """

    title: str
    family: str
    score: str
    terms: dict[str, dict[str, Any]]
    tuned: str = "attention_temperature"
    pool: str = "mean"
    has_bags: bool = False

    @property
    def has_gates(self) -> bool:
        """Whether heads need gates."""
        learned = any(term.get("weighting") == "learned" for term in self.terms.values())
        return learned or self.pool == "gate"

    def tempered(self, entry: dict[str, Any], tuned: float, coarse: float) -> dict[str, Any]:
        """The entry of a term with its tuned temperature multiplied, and with that of the loss if
        the term is coarse.
        """
        times = {"temperature": coarse if entry.get("level") == "coarse" else 1.0}
        times[self.tuned] = times.get(self.tuned, 1.0) * tuned
        return entry | {name: entry[name] * by for name, by in times.items() if name in entry}


ON_COARSE = {"coarse": COARSE}
ARMS = {
    "coarse_mean": Arm("coarse, mean pooling", "coarse", "coarse", ON_COARSE, "temperature"),
    "coarse_max": Arm("coarse, max pooling", "coarse", "coarse", ON_COARSE, "temperature", "max"),
    "softmax": Arm("softmax attention", "fine", "fine", {"fine": SOFTMAX}),
    "logsumexp": Arm("logsumexp", "fine", "fine", {"fine": LOGSUMEXP}),
    "symmetric": Arm("logsumexp, both directions", "fine", "fine", {"fine": SYMMETRIC}),
    "softmax_coarse": Arm(
        "softmax attention beside coarse", "fine", "sum", {"coarse": COARSE, "fine": SOFTMAX}
    ),
    "coarse_gate": Arm(
        "coarse, gated pooling", "coarse", "coarse", ON_COARSE, "temperature", "gate"
    ),
    "gated": Arm("gated, both directions", "fine", "fine", {"fine": GATED}),
    "gated_coarse": Arm(
        "gated beside coarse, mean pooling", "fine", "sum", {"coarse": COARSE, "fine": GATED}
    ),
    "gated_both": Arm(
        "gated beside coarse, gated pooling",
        "fine",
        "sum",
        {"coarse": COARSE, "fine": GATED},
        pool="gate",
    ),
    "gated_noise_rate": Arm(
        "gated beside coarse, learned noise rate",
        "fine",
        "sum",
        {"coarse": COARSE, "fine": GATED | {"noise_rate": 0.5}},
        pool="gate",
    ),
    "coarse_bag": Arm(
        "MIL-NCE, mean pooling",
        "coarse",
        "coarse",
        {"coarse": BAG},
        "temperature",
        has_bags=True,
    ),
}

# ``gated_both`` with fewer negatives in its fine term. They need a batch of at least 32 clips.
FEWER_NEGATIVES = {
    "gated_hardest": ("the 32 hardest captions", {"negatives": "hardest", "candidates": 32}),
    "gated_importance": ("32 drawn captions", {"negatives": "importance", "candidates": 32}),
    "gated_sampled": (
        "three phrases of each caption",
        {"negatives": "sampled", "sampled_phrases": 3},
    ),
}
CHEAPER_ARMS = {
    name: ARMS["gated_both"]._replace(
        title=f"gated beside coarse, {title}", terms={"coarse": COARSE, "fine": GATED | negatives}
    )
    for name, (title, negatives) in FEWER_NEGATIVES.items()
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: the axes of the study.

    - ``arm``: one of ``ARMS`` or ``CHEAPER_ARMS``; ``pairs``: one of ``PAIRS``. An encoder that no
      pair needs is left out.
    - ``batch``: clips of a step; ``examples``: clips seen in training, whatever the batch.
    - ``noise``: share of the narration that is about something else; ``clutter``: objects of a clip
      that nobody speaks of, in training and in retrieval.
    - ``width``: factor of the widths of all encoders.
    - ``rate``: the learning rate; ``temperature_times``: factor of the arm's tuned temperature;
      ``coarse_times``: factor of the temperature of coarse losses.
    - ``corpus``: seed of the corpus that retrieval is measured on: 1 to tune, 0 to report.
    - ``evaluations``: how often retrieval is measured, the end included.
    """
    variant = configs.variant(
        argument,
        arm="softmax_coarse",
        pairs="video_text",
        batch=32,
        examples=15_360,
        noise=0.5,
        clutter=1,
        width=1.0,
        rate=4e-3,
        temperature_times=1.0,
        coarse_times=1.0,
        corpus=0,
        evaluations=8,
    )
    configs.check_choices(variant, arm=ARMS | CHEAPER_ARMS, pairs=PAIRS)
    for key in ("batch", "width", "evaluations"):
        if variant[key] <= 0:
            raise configs.ConfigError(f"variant {key}={variant[key]} must be above 0")
    if variant.examples < variant.batch:
        raise configs.ConfigError(
            f"variant examples={variant.examples} must be at least one batch of {variant.batch}"
        )
    arm, pairs = (ARMS | CHEAPER_ARMS)[variant.arm], PAIRS[variant.pairs]
    config = configs.defaults()
    config.batch_size = variant.batch
    config.steps = variant.examples // variant.batch
    config.data.update(height=48, width=48)
    # A clip has three or four sentences.
    room = (
        {"captions": 4, "phrases": 6, "tokens": 32}
        if arm.has_bags
        else {"join_captions": True, "phrases": 12, "tokens": 72}
    )
    config.data.update(room)
    corpus = {"name": "narrated_shapes", "size": 48, "distractors": variant.clutter}
    config.data.source = {**corpus, "split": "train", "noise": variant.noise}

    modalities = tuple(
        name for name in ("video", "audio", "text") if any(name in pair for pair in pairs)
    )
    for modality in modalities:
        config.model[modality] = _encoder(modality, variant.width)
    config.model.spaces.joint.update(modalities=modalities, pool=arm.pool)
    if arm.has_gates:
        config.model.spaces.joint.gate = "linear"

    for pair, weight in pairs.items():
        for name, term in arm.terms.items():
            entry = {"pair": pair, "space": "joint", "weight": weight, **term}
            config.objective.terms[f"{name}_{pair}"] = arm.tempered(
                entry, variant.temperature_times, variant.coarse_times
            )

    config.objective.score = arm.score
    config.optimizer.learning_rate = variant.rate
    config.checkpoint.every_steps = max(1, config.steps // 4)
    for pair in pairs:
        if pair in RETRIEVED:
            config.evals[f"retrieval_{pair}"] = {
                "name": "retrieval",
                "pair": pair,
                "every": max(1, config.steps // variant.evaluations),
                # All that is said of a clip is one query. It is longer than the narration.
                "join_captions": True,
                "phrases": 32,
                "tokens": 128,
                "source": {
                    **corpus,
                    "split": "retrieval",
                    "clips": 512,
                    "seed": variant.corpus,
                },
            }
    return components.complete(config)


def _encoder(modality: str, times: float) -> dict[str, Any]:
    """The entry of an encoder, ``times`` as wide as the quickstart's."""

    def wide(*widths: int) -> tuple[int, ...]:
        return tuple(round(width * times) for width in widths)

    (text_width,) = wide(64)
    return {
        "video": {
            "name": "resnet2plus1d",
            "widths": wide(32, 64),
            "temporal_strides": (1, 2),
        },
        "audio": {"name": "resnet", "widths": wide(16, 32, 64), "stem_stride": (4, 2)},
        "text": {"name": "phrase_transformer", "width": text_width, "context": "phrase"},
    }[modality]
