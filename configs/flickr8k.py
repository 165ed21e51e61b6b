"""Flickr8k from scratch: 6,000 images with five captions each, sized for two CPU cores.

The corpus is an archive or a folder. Train a tokenizer on its captions first::

    python -m fgmm.data.tokenizer train --source=flickr8k --option=root=flickr8k.tar \
        --vocabulary_size=4000 --output=flickr8k.model
    python -m fgmm.main --config=configs/flickr8k.py:root=flickr8k.tar,tokenizer=flickr8k.model \
        --workdir=runs/flickr8k
"""

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.config.optimizer import UNDECAYED


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root``, ``tokenizer`` and ``steps``; ``validation`` is the split for evaluation,
    empty for none; ``objective`` is ``gated`` or ``fine``, softmax attention, beside a coarse
    term, or ``coarse`` alone.
    """
    variant = configs.variant(
        argument,
        root="flickr8k.tar",
        tokenizer="flickr8k.model",
        steps=3000,
        validation="dev",
        objective="gated",
    )
    configs.check_choices(variant, objective=("gated", "fine", "coarse"))
    config = configs.defaults()
    config.steps = variant.steps
    config.batch_size = 128
    config.data.source = {"name": "flickr8k", "root": variant.root, "split": "train"}
    config.data.update(frames=1, height=96, width=96, captions=1, phrases=6, tokens=24, cache=True)
    config.data.tokenizer = variant.tokenizer
    config.transforms.update(flip=True, crop_area=0.4)

    config.model.video = {
        "name": "resnet2plus1d",
        "widths": (48, 96, 192),
        "temporal_strides": (1, 1, 1),
    }
    config.model.text = {"name": "phrase_transformer", "width": 128}
    config.model.spaces.joint.update(modalities=("video", "text"), width=128)

    common = {"name": "info_nce", "pair": "video_text", "space": "joint"}
    config.objective.terms.coarse = {**common, "level": "coarse"}
    if variant.objective == "gated":
        config.model.spaces.joint.update(configs.GATED_SPACE)
        config.objective.terms.fine = {**common, **configs.GATED_TERM, "level": "fine"}
    elif variant.objective == "fine":
        config.objective.terms.fine = {**common, "level": "fine", "pool": "softmax"}

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule.warmup = 1 / 15
    config.optimizer.weight_decay = ((UNDECAYED, 0.0), (".*", 0.1))
    if variant.validation:
        config.checkpoint.best_metric = f"{variant.validation}/coarse/text_to_video/r@10"
        config.evals[variant.validation] = {
            "name": "retrieval",
            "every": 500,
            # Some captions are far longer than most.
            "phrases": 12,
            "tokens": 96,
            "source": {"name": "flickr8k", "root": variant.root, "split": variant.validation},
        }
    return components.complete(config)
