"""How well are classes told when the encoder is trained end to end?

The recipe below is ours, for small networks and small corpora, and was not tuned. Published
recipes differ: VideoMAE on UCF101, for instance, has AdamW at 5e-4, layer decay 0.7, weight decay
0.05, label smoothing 0.1, dropout 0.5 and 100 epochs (scripts/ucf101 of github.com/MCG-NJU/VideoMAE
at commit cece388), and AST on ESC-50 a learning rate of 1e-4, 35 epochs and SpecAugment
(egs/esc50/run_esc.sh of github.com/YuanGongND/ast at commit 504d584). ``validation=True`` measures
a recipe without a look at the test parts.
"""

import ml_collections

from fgmm.config.variants import given
from fgmm.eval import corpora

# For both modalities; ``rate`` and ``epochs`` are variants.
OPTIMIZER = {
    "name": "adamw",
    "b1": 0.9,
    "b2": 0.999,
    "clip_norm": 1.0,
    "layer_decay": 0.75,
    "schedule": {"name": "cosine", "warmup": 0.1, "end": 0.0},
    "weight_decay": ((".*(bias|scale)$", 0.0), (".*", 0.05)),
}
AUGMENTATION = {
    "video": {"flip": True, "crop_area": 0.5},
    "audio": {"time_masks": 1, "time_mask": 0.2, "band_masks": 1, "band_mask": 0.2},
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``corpus``, of ``fgmm.eval.corpora``; the options of its source; ``label`` and
    ``modality``; ``train``, a split to train on while ``split`` is the test, or empty for folds of
    ``split``, which keep groups together; ``fold``, the only one to run of several official splits;
    ``epochs``, ``rate`` of learning, ``batch`` and ``dropout``.
    """
    variants = {"epochs": 30.0, "rate": 1e-3, "batch": 32, "dropout": 0.0}
    corpus, variant = corpora.chosen_with(
        argument, "finetune", "label", "modality", "train", **variants
    )
    test = corpus.entry
    # If the source has windows, training draws a new one every time, from anywhere.
    train = {**test, "windows": 0} if "windows" in test else test
    official = bool(corpus.train)
    if official:
        train = {**train, "split": corpus.train}
    fold = given(argument, "fold")
    splits = (corpus.options["fold"],) if fold else corpus.splits
    term = {"name": "softmax_cross_entropy", "label_smoothing": 0.1}
    augmentation = {**AUGMENTATION.get(corpus.modality, {})}
    if not corpus.mirrored and "flip" in augmentation:
        augmentation["flip"] = False
    return ml_collections.ConfigDict(
        {
            "name": "finetune",
            "source": train,
            "test_source": test,
            "label": corpus.label,
            "modality": corpus.modality,
            "folds": 0 if official else 5,
            "splits": splits if official else (),
            "validation": False,
            "pool": "mean",
            "dropout": variant.dropout,
            "term": {"name": "sigmoid_cross_entropy"} if corpus.several else term,
            "epochs": variant.epochs,
            "training": {
                "batch_size": variant.batch,
                "optimizer": {**OPTIMIZER, "learning_rate": variant.rate},
                "transforms": augmentation,
            },
            "seeds": (0,),
            "untrained": True,
            "fold_seed": 0,
        }
    )
