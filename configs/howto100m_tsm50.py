"""HowTo100M with TSM-ResNet50, ResNet-50 on sound and a bag of words, by the recipe of MMV.

Alayrac et al., NeurIPS 2020 (arXiv 2006.16228), sections 3 and 4.1, and the models' published
config (github.com/google-deepmind/deepmind-research, mmv/config.py).
``fgmm/data/sources/howto100m.py`` shows the files of the corpus. Train a tokenizer on it first::

    python -m fgmm.data.tokenizer train --source=howto100m --option=root=howto100m \
        --vocabulary_size=32000 --output=howto100m.model
    python -m fgmm.main --workdir=runs/howto100m_tsm50 \
        --config=configs/howto100m_tsm50.py:root=howto100m,tokenizer=howto100m.model

Not as published: heads have no batch normalisation; word embeddings are learned and stop words
kept; the sound's rate, window and hop are ours; AudioSet takes no part.
Learning rate, warmup, temperature, crop, weights and bands are not in the published config and have
not been checked against the paper's text. ``fine`` is this project's own: with ``fine=none`` whole
clips are compared with whole sounds and whole narrations.
"""

import ml_collections

from fgmm import components
from fgmm import config as configs

SECONDS, FPS = 3.2, 10.0
FINE = ("gated", "mil_nce", "none")
SOURCES = ("howto100m", "prepared")
# Section 4.1: on HowTo100M video and text count ten times as much as video and audio.
WEIGHTS = {"video_text": 1.0, "video_audio": 0.1}
# "FAC": a fine space for video and audio, and a coarse one, reached through it, that adds text.
# The published head of video into the fine space has a hidden layer; the other heads are linear.
SPACES = {"video_text": "vat", "video_audio": "va"}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root``, ``captions`` (a folder in it or ``raw_caption.json``), ``tokenizer``, a
    SentencePiece model or a list of words; ``validation`` is the share of videos kept for
    evaluation, 0 for none; with ``source=prepared`` the root is what ``fgmm.data.prepare`` made of
    the corpus, validation included; ``batch`` and ``steps``; ``fine`` adds terms on cells, phrases
    and segments of sound, ``gated`` or ``mil_nce``, or ``none``.
    """
    variant = configs.variant(
        argument,
        source="howto100m",
        root="howto100m",
        captions="captions",
        tokenizer="howto100m.model",
        validation=0.001,
        batch=4096,
        steps=500_000,
        fine="gated",
    )
    configs.check_choices(variant, fine=FINE, source=SOURCES)
    files = {"captions": variant.captions, "validation": variant.validation}
    config = configs.defaults()
    config.steps = variant.steps
    config.batch_size = variant.batch
    source = {
        "name": variant.source,
        "root": variant.root,
        **({} if variant.source == "prepared" else files),
        "minimum": 4.0,
    }
    config.data.source = {**source, "split": "train", "candidates": 4}
    config.data.update(
        seconds=SECONDS,
        frames=round(SECONDS * FPS),
        height=200,
        width=200,
        sample_rate=16000,
        captions=4,
        # Without a fine term a narration is one phrase; its pool is the published maximum.
        phrases=1 if variant.fine == "none" else 6,
        # Pieces of the published 16 words.
        tokens=24,
        workers=16,
    )
    config.data.tokenizer = variant.tokenizer
    # A crop of 200 x 200 from a shorter side of 224, jittered in scale; 80 bands.
    config.transforms.update(flip=True, crop_area=0.6, mel_bands=80)
    # Colours as in the default of DMVR, the same authors' library.
    config.transforms.update(brightness=32 / 255, contrast=0.4, saturation=0.4, hue=0.2)

    config.model.video = {"name": "tsm_resnet50"}
    config.model.audio = {"name": "resnet50"}
    config.model.text = {"name": "phrase_bag", "width": 300, "hidden": 2048}
    config.model.spaces = {
        "va": {
            "modalities": ("video", "audio"),
            "width": 512,
            "hidden": {"video": 512},
            "bias": True,
        },
        "vat": {
            "modalities": ("video", "audio", "text"),
            "width": 256,
            "bias": True,
            "through": "va",
        },
    }

    if variant.fine == "gated":
        for space in config.model.spaces.values():
            space.update(configs.GATED_SPACE)
    terms = {"video_text": "mil_nce", "video_audio": "info_nce"}
    for pair, term in terms.items():
        common = {"name": term, "pair": pair, "space": SPACES[pair], "weight": WEIGHTS[pair]}
        # The published temperature, which is not learned.
        common |= {"temperature": 0.07, "learn_temperature": False}
        config.objective.terms[f"coarse_{pair}"] = {**common, "level": "coarse"}
        if variant.fine != "none":
            fine = configs.GATED_TERM if variant.fine == "gated" else {"pool": "softmax"}
            config.objective.terms[f"fine_{pair}"] = {**common, **fine, "level": "fine"}

    # Adam, 0.002, 5,000 steps of warmup, half a period of the cosine (section 4.1).
    config.optimizer.update(learning_rate=2e-3, b2=0.999, clip_norm=0.0)
    # As a share of the steps, so that a short run has a short warmup.
    config.optimizer.schedule.warmup = min(0.1, 5000 / config.steps)
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
