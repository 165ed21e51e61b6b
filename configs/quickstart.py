"""A few minutes on two CPU cores: video, audio and text encoders on narrated shapes."""

import ml_collections

from fgmm import components
from fgmm import config as configs

# The fine terms by name; in all but "gated" and "annealed" every phrase of a caption weighs the
# same, or is a member of the same bag.
FINE = {
    "gated": configs.GATED_TERM,
    "info_nce": {"name": "info_nce"},
    "fine_grained_nce": {"name": "fine_grained_nce"},
    "annealed": {"name": "fine_grained_nce", "weights": "matched"},
    "mil_nce": {"name": "mil_nce"},
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``noise`` is the share of sentences that say what is not there; ``steps``; ``fine``
    is the loss on local embeddings, one of ``FINE``, or ``none`` for the coarse terms alone.
    """
    variant = configs.variant(argument, noise=0.5, steps=1200, fine="gated")
    configs.check_choices(variant, fine=(*FINE, "none"))
    config = configs.defaults()
    config.steps = variant.steps
    config.batch_size = 32
    config.data.source = {"name": "narrated_shapes", "split": "train", "noise": variant.noise}
    config.data.update(join_captions=True, phrases=12, tokens=72)

    config.model.video = {"name": "resnet2plus1d", "widths": (32, 64), "temporal_strides": (1, 2)}
    config.model.audio = {"name": "resnet", "widths": (16, 32, 64), "stem_stride": (4, 2)}
    config.model.text = {"name": "phrase_transformer", "width": 64, "context": "phrase"}

    if variant.fine == "gated":
        config.model.spaces.joint.update(configs.GATED_SPACE)

    for pair, weight in (("video_text", 1.0), ("video_audio", 0.5), ("audio_text", 0.5)):
        common = {"pair": pair, "space": "joint", "weight": weight}
        config.objective.terms[f"coarse_{pair}"] = {
            **common,
            "name": "info_nce",
            "level": "coarse",
        }
        if variant.fine != "none":
            fine = {**common, **FINE[variant.fine], "level": "fine"}
            if variant.fine == "annealed":
                # Sharp weights before anything is learned would decide by chance.
                fine |= {"anneal_start": variant.steps // 4, "anneal_end": 3 * variant.steps // 4}
            config.objective.terms[f"fine_{pair}"] = fine

    # What the study on narrated shapes found at a batch of 32, with gates and for whole clips.
    config.optimizer.learning_rate = 4e-3 if variant.fine == "gated" else 2e-3
    config.optimizer.schedule.warmup = 1 / 12
    config.checkpoint.every_steps = 300
    config.checkpoint.best_metric = "retrieval/coarse/text_to_video/r@10"
    config.evals.retrieval = {
        "name": "retrieval",
        "source": {"name": "narrated_shapes", "split": "retrieval", "clips": 512},
        # Its captions are longer than the narration.
        "phrases": 32,
        "tokens": 128,
    }
    return components.complete(config)
