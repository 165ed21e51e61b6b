"""A few minutes on two CPU cores: video, audio and text encoders on narrated shapes."""

import ml_collections

from fgmm import config as configs


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``noise`` is the share of sentences that say what is not there."""
    variant = configs.variant(argument, noise=0.5, steps=1500)
    config = configs.defaults()
    config.steps = variant.steps
    config.batch_size = 32
    config.data.source = {"name": "narrated_shapes", "split": "train", "noise": variant.noise}
    config.data.join_captions = True
    config.data.phrases = 8
    config.data.tokens = 48

    config.model.video = {"name": "resnet2plus1d", "widths": (32, 64), "temporal_strides": (1, 2)}
    config.model.audio = {"name": "resnet", "widths": (16, 32, 64), "stem_stride": (4, 2)}
    config.model.text = {"name": "phrase_transformer", "width": 64}

    fine = {"name": "info_nce", "level": "fine", "space": "joint", "pool": "softmax"}
    coarse = {"name": "info_nce", "level": "coarse", "space": "joint"}
    config.objective.terms = {
        "fine_video_text": {**fine, "pair": "video_text"},
        "coarse_video_text": {**coarse, "pair": "video_text"},
        "fine_video_audio": {**fine, "pair": "video_audio", "weight": 0.5},
        "coarse_video_audio": {**coarse, "pair": "video_audio", "weight": 0.5},
        "fine_audio_text": {**fine, "pair": "audio_text", "weight": 0.5},
        "coarse_audio_text": {**coarse, "pair": "audio_text", "weight": 0.5},
    }

    config.optimizer.learning_rate = 2e-3
    config.checkpoint.every_steps = 500
    config.checkpoint.best_metric = "retrieval/fine/text_to_video/r@10"
    config.evals.retrieval = {
        "name": "retrieval",
        "every": 0,
        "source": {"name": "narrated_shapes", "split": "retrieval", "clips": 512},
    }
    return configs.complete(config)
