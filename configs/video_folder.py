"""Your own videos with captions beside them, sized for two CPU cores.

The folder is as ``fgmm/data/sources/video_folder.py`` shows; a tokenizer is trained on its captions
first::

    python -m fgmm.data.tokenizer train --source=video_folder --option=root=my_videos \
        --vocabulary_size=2000 --output=my_videos.model
    python -m fgmm.main --config=configs/video_folder.py:root=my_videos,tokenizer=my_videos.model \
        --workdir=runs/my_videos
"""

import ml_collections

from fgmm import components
from fgmm import config as configs

# The fine term by name, and how many captions a clip draws from those near it.
FINE = {"info_nce": 1, "mil_nce": 4}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root``, ``tokenizer``, ``steps``; ``validation`` is the share of videos kept for
    evaluation, 0 to train on all without one; ``seconds`` and ``fps`` of a window and ``size`` of
    its pictures; ``fine`` is the loss on local embeddings: ``info_nce`` with a caption spoken in
    the window, or ``mil_nce`` with a bag of captions spoken nearby, for narration out of step with
    the pictures; ``language`` is that of captions with one in their names, ``NAME.en.vtt``.
    """
    variant = configs.variant(
        argument,
        root="videos",
        tokenizer="videos.model",
        steps=2000,
        validation=0.1,
        seconds=2.0,
        fps=4.0,
        size=64,
        fine="info_nce",
        language="",
    )
    if variant.fine not in FINE:
        raise configs.ConfigError(
            f"variant fine={variant.fine!r} is unknown; allowed: {', '.join(FINE)}"
        )
    config = configs.defaults()
    config.steps = variant.steps
    config.batch_size = 32
    source = {
        "name": "video_folder",
        "root": variant.root,
        "validation": variant.validation,
        "language": variant.language,
    }
    candidates = FINE[variant.fine]
    config.data.source = {
        **source,
        "split": "train",
        "candidates": candidates if candidates > 1 else 0,
    }
    config.data.update(
        seconds=variant.seconds,
        frames=max(1, round(variant.seconds * variant.fps)),
        height=variant.size,
        width=variant.size,
        sample_rate=16000,
        captions=candidates,
        phrases=8,
        tokens=48,
    )
    config.data.tokenizer = variant.tokenizer
    config.transforms.update(flip=True, crop_area=0.5)

    config.model.video = {"name": "resnet2plus1d", "widths": (32, 64), "temporal_strides": (1, 2)}
    config.model.audio = {"name": "resnet", "widths": (16, 32, 64), "stem_stride": (4, 2)}
    config.model.text = {"name": "phrase_transformer", "width": 64}

    for pair, weight in (("video_text", 1.0), ("video_audio", 0.5), ("audio_text", 0.5)):
        common = {"pair": pair, "space": "joint", "weight": weight}
        config.objective.terms[f"coarse_{pair}"] = {**common, "name": "info_nce", "level": "coarse"}
        config.objective.terms[f"fine_{pair}"] = {**common, "name": variant.fine, "level": "fine"}

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule.warmup = 0.05
    if variant.validation:
        config.checkpoint.best_metric = "validation/coarse/text_to_video/r@10"
        config.evals.validation = {
            "name": "retrieval",
            "every": 500,
            "source": {**source, "split": "validation"},
        }
    return components.complete(config)
