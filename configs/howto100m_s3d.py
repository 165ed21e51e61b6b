"""HowTo100M with S3D-G and a bag of words, by the recipe of MIL-NCE.

Miech et al., CVPR 2020 (arXiv 1912.06430), sections 3 and 4.1, and the authors' code for GPUs
(github.com/antoine77340/MIL-NCE_HowTo100M: README, args.py, video_loader.py, main_distributed.py).
``fgmm/data/sources/howto100m.py`` shows the files of the corpus. Train a tokenizer on it first::

    python -m fgmm.data.tokenizer train --source=howto100m --option=root=howto100m \
        --vocabulary_size=32000 --output=howto100m.model
    python -m fgmm.main --config=configs/howto100m_s3d.py:root=howto100m,tokenizer=howto100m.model \
        --workdir=runs/howto100m_s3d

Not as published: the learning rate falls with a cosine, as in the authors' code, and not in two
steps, as in the paper; word embeddings are learned and not word2vec's, except with ``init_from``; a
random crop varies in size and is then resized; a video with fewer than K narrations has a smaller
bag, not copies. Section numbers and the limit of 16 words have not been checked against the paper.
``fine`` is this project's own, with embeddings of unit length and learned temperatures: with
``fine=none`` the objective is MIL-NCE alone, on the products of whole clips and whole narrations.
"""

import ml_collections

from fgmm import components
from fgmm import config as configs

# The table in the code's README: "original" with 2,645 epochs of 1,238,911 videos in batches of
# 8,192 (400,000 steps), and with 206 epochs in batches of 512 (500,000 steps). A window is 3.2 s.
RECIPES = {
    "large": {"frames": 32, "batch": 8192, "steps": 400_000},
    "small": {"frames": 16, "batch": 512, "steps": 500_000},
}
SECONDS = 3.2
FINE = ("gated", "mil_nce", "none")
SOURCES = ("howto100m", "prepared")


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root``, ``captions`` (a folder in it or ``raw_caption.json``), ``tokenizer``, a
    SentencePiece model or MIL-NCE's list of words; ``validation`` is the share of videos kept for
    evaluation, 0 for none; with ``source=prepared`` the root is what ``fgmm.data.prepare`` made of
    the corpus, validation included; ``recipe`` is ``large`` or ``small``; ``fine`` adds a
    term on cells and phrases, ``gated`` or ``mil_nce``, or ``none``.
    """
    variant = configs.variant(
        argument,
        source="howto100m",
        root="howto100m",
        captions="captions",
        tokenizer="howto100m.model",
        validation=0.001,
        recipe="large",
        fine="gated",
    )
    configs.check_choices(variant, recipe=tuple(RECIPES), fine=FINE, source=SOURCES)
    recipe, published = RECIPES[variant.recipe], variant.fine == "none"
    files = {"captions": variant.captions, "validation": variant.validation}
    config = configs.defaults()
    config.steps = recipe["steps"]
    config.batch_size = recipe["batch"]
    source = {
        "name": variant.source,
        "root": variant.root,
        **({} if variant.source == "prepared" else files),
        "minimum": 4.0,
    }
    # --num_candidates=4 in the code's README.
    config.data.source = {**source, "split": "train", "candidates": 4}
    config.data.update(
        seconds=SECONDS,
        frames=recipe["frames"],
        height=200,
        width=200,
        captions=4,
        # Without a fine term a narration is one phrase; its pool is the published maximum.
        phrases=1 if published else 6,
        # Pieces of the published 16 words.
        tokens=24,
        workers=16,
    )
    config.data.tokenizer = variant.tokenizer
    # A crop of 200 x 200 from a shorter side of 256; pixels in [0, 1].
    config.transforms.update(
        flip=True,
        crop_area=0.61,
        crop_aspect=1.0,
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_spread=(255.0, 255.0, 255.0),
    )

    config.model.video = {"name": "s3d"}
    config.model.text = {"name": "phrase_bag", "width": 300, "hidden": 2048}
    config.model.spaces.joint.update(
        modalities=("video", "text"), width=512, bias=True, unit_length=not published
    )

    common = {"name": "mil_nce", "pair": "video_text", "space": "joint"}
    config.objective.terms.coarse = {**common, "level": "coarse"}
    if published:
        config.objective.terms.coarse.update(temperature=1.0, learn_temperature=False)
    elif variant.fine == "gated":
        config.model.spaces.joint.update(configs.GATED_SPACE)
        config.objective.terms.fine = {**common, **configs.GATED_TERM, "level": "fine"}
    else:
        config.objective.terms.fine = {**common, "level": "fine", "pool": "softmax"}

    # Adam, 1e-3, linear warmup of 5,000 steps (section 4.1; args.py), nothing decayed or clipped.
    config.optimizer.update(learning_rate=1e-3, b2=0.999, clip_norm=0.0)
    # As a share of the steps, so that a short run has a short warmup.
    config.optimizer.schedule.warmup = 5000 / config.steps
    config.optimizer.weight_decay = ((".*", 0.0),)
    config.checkpoint.update(every_steps=5000, every_minutes=30.0)
    if variant.validation:
        config.checkpoint.best_metric = "validation/coarse/text_to_video/r@10"
        config.evals.validation = {
            "name": "retrieval",
            "every": 10_000,
            "source": {**source, "split": "validation", "candidates": 1},
        }
    return components.complete(config)
