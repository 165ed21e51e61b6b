"""One corpus that ``fgmm.data.prepare`` wrote, or several together, sized for two CPU cores.

Train a tokenizer on the captions first::

    python -m fgmm.data.tokenizer train --source=prepared --option=root=prepared \
        --vocabulary_size=4000 --output=prepared.model
    python -m fgmm.main --config=configs/prepared.py:root=prepared,tokenizer=prepared.model \
        --workdir=runs/prepared

A corpus may lack a modality that another one has: a clip counts only in pairs of modalities that it
has.
"""

import pathlib
import re

import ml_collections

from fgmm import components
from fgmm import config as configs

# The fine terms by name, and how many captions a clip draws from those near it.
FINE = {
    "gated": (configs.GATED_TERM, 1),
    "info_nce": ({"name": "info_nce"}, 1),
    "mil_nce": ({"name": "mil_nce"}, 4),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``root``, a folder, or several joined by ``+``; ``split`` to train on, except of a
    folder that is given as ``FOLDER@SPLIT``; ``weights`` of several folders, joined by ``+``, all
    equal if empty; ``validation``, the split of the first folder for evaluation, empty for none;
    ``tokenizer``, ``steps`` and ``batch``; ``seconds`` and ``fps`` of a window and ``size`` of its
    pictures; ``fine`` is the loss on local embeddings: ``gated``, which learns what to turn down,
    ``info_nce``, or ``mil_nce`` with a bag of captions spoken nearby.
    """
    variant = configs.variant(
        argument,
        root="prepared",
        split="train",
        weights="",
        validation="validation",
        tokenizer="prepared.model",
        steps=2000,
        batch=32,
        seconds=2.0,
        fps=4.0,
        size=64,
        fine="gated",
    )
    configs.check_choices(variant, fine=FINE)
    config = configs.defaults()
    config.steps = variant.steps
    config.batch_size = variant.batch
    fine, bag = FINE[variant.fine]
    parts = _parts(variant, {"candidates": bag})
    first = next(iter(parts.values()))
    config.data.source = first if len(parts) == 1 else {"name": "mixture", "sources": parts}
    config.data.update(
        seconds=variant.seconds,
        frames=max(1, round(variant.seconds * variant.fps)),
        height=variant.size,
        width=variant.size,
        sample_rate=16000,
        captions=bag,
        phrases=8,
        tokens=48,
    )
    config.data.tokenizer = variant.tokenizer
    config.transforms.update(flip=True, crop_area=0.5)

    config.model.video = {"name": "resnet2plus1d", "widths": (32, 64), "temporal_strides": (1, 2)}
    config.model.audio = {"name": "resnet", "widths": (16, 32, 64), "stem_stride": (4, 2)}
    config.model.text = {"name": "phrase_transformer", "width": 64}

    if variant.fine == "gated":
        config.model.spaces.joint.update(configs.GATED_SPACE)
    for pair, weight in (("video_text", 1.0), ("video_audio", 0.5), ("audio_text", 0.5)):
        common = {"pair": pair, "space": "joint", "weight": weight}
        config.objective.terms[f"coarse_{pair}"] = {**common, "name": "info_nce", "level": "coarse"}
        config.objective.terms[f"fine_{pair}"] = {**common, **fine, "level": "fine"}

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule.warmup = 0.05
    if variant.validation:
        config.checkpoint.best_metric = "validation/coarse/text_to_video/r@10"
        evaluated = {"root": first["root"], "split": variant.validation, "candidates": 1}
        config.evals.validation = {
            "name": "retrieval",
            "every": 500,
            "source": {"name": "prepared", **evaluated},
        }
    return components.complete(config)


def _roots(joined: str) -> list[str]:
    """The folders of the variant ``root``, each with its ``@SPLIT``; names may have a ``+``."""
    roots, left = [], joined.split("+")
    while left:
        for count in range(len(left), 0, -1):
            root = "+".join(left[:count])
            folder, _, split = root.partition("@")
            # Names of folders may have a plus, those of splits have none.
            known = "+" not in split and pathlib.Path(folder).expanduser().is_dir()
            if count == 1 or known:
                roots.append(root)
                left = left[count:]
                break
    return roots


def _parts(variant: ml_collections.ConfigDict, options: dict) -> dict[str, dict]:
    """The entry of each folder, by its name, with a weight if there are several.

    Raises:
      ConfigError: two folders have the same name, or the weights are not as many numbers.
    """
    roots = _roots(variant.root)
    weights = variant.weights.split("+") if variant.weights else ["1"] * len(roots)
    parts = {}
    for root, weight in zip(roots, weights, strict=False):
        folder, _, split = root.partition("@")
        # A key of a config, which a flag may name.
        name = re.sub(r"[^\w-]", "_", pathlib.PurePath(folder).name)
        parts[name] = {"name": "prepared", "root": folder, "split": split or variant.split}
        parts[name] |= options
        if len(roots) > 1:
            try:
                parts[name]["weight"] = float(weight)
            except ValueError as error:
                raise configs.ConfigError(f"variant weights: {weight!r} is no number") from error
    if not len(parts) == len(roots) == len(weights):
        raise configs.ConfigError(
            f"variant root={variant.root!r} must be folders of different names, and "
            f"weights={variant.weights!r} as many numbers"
        )
    return parts
