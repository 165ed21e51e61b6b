"""MSR-VTT from CLIP, by the recipe of CLIP4Clip.

Luo et al., "CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval", 2021 (arXiv
2104.08860), as published in github.com/ArrowLuo/CLIP4Clip at commit 508ffa3.
``fgmm/data/sources/msr_vtt.py`` shows the files of the corpus. Convert CLIP first, ViT-B/32 or
ViT-B/16::

    python -m fgmm.convert --from=clip-vit-base-patch32 --output=runs/clip
    python -m fgmm.main --config=configs/msr_vtt_clip.py:clip=runs/clip,root=msr_vtt \
        --workdir=runs/msr_vtt_clip

Published, from the command for MSR-VTT in README.md: 9,000 videos to train on with 20 sentences
each, every one an example (``--expand_msrvtt_sentences``), 5 epochs of them at a batch of 128;
frames at 1 a second, of which 12 at equal distances (``--slice_framepos 2``); 32 tokens; a
learning rate of 1e-4, times 1e-3 for all of CLIP (``--coef_lr``); ``--freeze_layer_num 0``, which
freezes what comes before the blocks (main_task_retrieval.py). From prep_optimizer there: Adam with
b1 0.9, b2 0.98, eps 1e-6, weight decay of 0.2 for all but biases, warmup over a tenth, then the
cosine; gradients clipped to a norm of 1. From modules/modeling.py: the mean of the cross entropies
of both directions; temperature at least 0.01; ``meanP`` and ``seqTransf``, the latter with 4 blocks
(``--cross_num_hidden_layers``). Numbers are those of the list 1k-A.

Not as published: a batch has a video once, with one sentence drawn from its 20; 12 frames are at
equal distances over the video even if it is shorter than 12 s; frames are averaged before the
projection and not scaled to unit length first; the transformer over them starts at zero and not
from text blocks; Adam has its bias correction, and gradients are not also clipped array by array;
after the warmup the learning rate is at its peak, and the published one at 0.976 of it; the last
step is reported, and the published program reports the epoch that is best on the test list.
``fine`` is this project's own.
"""

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.train.checkpoint import config_of

# Steps of an epoch: 9,000 videos with 20 sentences each in batches of 128, the rest left out.
EPOCH, EPOCHS = 1406, 5
TIME = {"mean": 0, "transformer": 4}
FINE = ("none", "fine_grained_nce")
# What the published program freezes: all before the blocks.
BEFORE_BLOCKS = (
    "model/encoders_video/(embedding|positions|class_token|norm_before)(/.*)?",
    "model/encoders_text/(words|positions)(/.*)?",
)


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``clip``, the folder of a converted CLIP; ``root``; ``time``, the form of a clip's
    coarse feature, ``mean`` (``meanP``) or ``transformer`` (``seqTransf``); ``fine`` adds a term on
    cells and phrases (``fine_grained_nce``) or ``none``; ``batch`` and ``steps``.
    """
    variant = configs.variant(
        argument,
        clip="runs/clip",
        root="msr_vtt",
        time="mean",
        fine="none",
        batch=128,
        steps=EPOCH * EPOCHS,
    )
    configs.check_choices(variant, time=tuple(TIME), fine=FINE)
    config = config_of(variant.clip)
    config.steps, config.batch_size = variant.steps, variant.batch
    # Whole videos.
    source = {"name": "msr_vtt", "root": variant.root, "seconds": 0.0}
    config.data.source = {**source, "split": "train_9k"}
    config.data.update(seconds=0.0, frames=12, tokens=32, captions=1, phrases=8)
    config.model.video.temporal_depth = TIME[variant.time]
    initialised = []
    if variant.time == "transformer":
        initialised.append(("model/encoders_video/temporal/.*", "initialise"))
    if variant.fine != "none":
        config.objective.terms.fine = {
            "name": variant.fine,
            "pair": "video_text",
            "level": "fine",
            "space": "joint",
        }
        initialised.append(("objective/fine/.*", "initialise"))
    config.init_from.update(path=variant.clip, rules=tuple(initialised))

    config.optimizer.update(learning_rate=1e-4, b1=0.9, b2=0.98, eps=1e-6, clip_norm=1.0)
    config.optimizer.schedule.update(name="cosine", warmup=0.1)
    config.optimizer.weight_decay = ((".*/bias", 0.0), (".*", 0.2))
    config.optimizer.learning_rate_scale = (
        *((regex, "frozen") for regex in BEFORE_BLOCKS),
        *((regex, 1.0) for regex, _ in initialised),
        (".*", 1e-3),
    )
    config.checkpoint.every_steps = EPOCH
    config.evals.test_1k = {
        "name": "retrieval",
        "every": EPOCH,
        "captions": 20,
        "source": {**source, "split": "test_1k"},
    }
    return components.complete(config)
