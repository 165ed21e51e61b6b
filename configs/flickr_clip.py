"""Flickr30k or Flickr8k from CLIP, by the recipe that fine-tuned Chinese CLIP on Flickr30k.

Yang et al., "Chinese CLIP: Contrastive Vision-Language Pretraining in Chinese", 2022 (arXiv
2211.01335), as published in github.com/OFA-Sys/Chinese-CLIP at commit 31863c7. Convert CLIP first.
``fgmm/data/sources/image_captions.py`` shows the files of Flickr30k::

    python -m fgmm.convert --from=clip-vit-base-patch16 --output=runs/clip
    python -m fgmm.main --config=configs/flickr_clip.py:clip=runs/clip,root=flickr30k \
        --workdir=runs/flickr_clip

Published, from run_scripts/flickr30k_finetune_vit-b-16_rbt-base.sh: a batch of 1,024 (128 on each
of 8 devices), 3 epochs in which each of an image's five captions is an example, a learning rate of
5e-5 with 100 steps of warmup, weight decay of 0.001. From cn_clip/training: b1 0.9, b2 0.98, eps
1e-6 and no clipping of gradients (params.py, train.py); the cosine (scheduler.py); no decay of
biases, normalisations and temperature (main.py); crops of at least 0.9 of the picture and
mirroring (data.py).

Not as published: the published text tower reads Chinese, at most 52 tokens, and here captions have
the length of CLIP's; AutoAugment is left out; an image comes once in a batch, with one caption
drawn from its five. ``fine``, ``rank`` and the values for Flickr8k are ours. ``rank`` trains
adapters in the place of the towers, at 20 times the learning rate.
"""

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.config.optimizer import UNDECAYED
from fgmm.train.checkpoint import config_of

# By corpus: its source, the splits of training and evaluation, and the number of training images.
CORPORA = {
    "flickr30k": ("image_captions", "train", "val", 29_000),
    "flickr8k": ("flickr8k", "train", "dev", 6000),
}
CAPTIONS, EPOCHS, BATCH = 5, 3, 1024
FINE = ("none", "fine_grained_nce")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clip``, the folder of a converted CLIP; ``corpus``, of ``CORPORA``, and its
    ``root``; ``fine`` adds a term on patches and phrases (``fine_grained_nce``) or ``none``;
    ``rank`` of adapters, 0 to train all; ``batch`` and ``rate``, of learning; ``steps``, 0 for
    those of three epochs.
    """
    variant = configs.variant(
        argument,
        clip="runs/clip",
        corpus="flickr30k",
        root="flickr30k",
        fine="none",
        rank=0,
        batch=BATCH,
        rate=5e-5,
        steps=0,
    )
    configs.check_choices(variant, corpus=tuple(CORPORA), fine=FINE)
    name, train, validation, images = CORPORA[variant.corpus]
    # The published program fills up the last batch.
    epoch = -(-images * CAPTIONS // variant.batch)
    config = config_of(variant.clip)
    config.steps = variant.steps or EPOCHS * epoch
    config.batch_size = variant.batch
    config.data.source = {"name": name, "root": variant.root, "split": train}
    config.data.update(captions=1, phrases=8)
    config.transforms.update(flip=True, crop_area=0.9)
    initialised = ()
    if variant.fine != "none":
        config.objective.terms.fine = {
            "name": variant.fine,
            "pair": "video_text",
            "level": "fine",
            "space": "joint",
        }
        initialised = (("objective/fine/.*", "initialise"),)
    config.init_from.update(path=variant.clip, rules=initialised)

    config.optimizer.update(learning_rate=variant.rate, b1=0.9, b2=0.98, eps=1e-6, clip_norm=0.0)
    # As a share of the steps, so that a short run has a short warmup.
    config.optimizer.schedule.update(name="cosine", warmup=min(0.25, 100 / config.steps))
    config.optimizer.weight_decay = ((UNDECAYED, 0.0), (".*", 0.001))
    if variant.rank:
        config.lora.update(
            rules=(("model/encoders_.*/block_.*/kernel", variant.rank),), alpha=2.0 * variant.rank
        )
        config.optimizer.learning_rate_scale = (
            (".*/lora_[ab]", 20.0),
            ("model/encoders_.*", "frozen"),
        )
    config.checkpoint.best_metric = "validation/coarse/text_to_video/r@1"
    config.evals.validation = {
        "name": "retrieval",
        "every": epoch,
        "source": {"name": name, "root": variant.root, "split": validation},
    }
    return components.complete(config)
