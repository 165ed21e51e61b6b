"""Any corpus in the form it has: videos, pictures or sounds with captions, sized for two CPU cores.

``source`` names a file in ``fgmm/data/sources``; the options of that source are variants too. Train
a tokenizer on the captions first. Put a pattern in quotes, or the shell expands it::

    python -m fgmm.data.tokenizer train --source=webdataset --option=root='tars/{000..010}.tar' \
        --vocabulary_size=4000 --output=tars.model
    python -m fgmm.main --workdir=runs/tars \
        --config='corpus:source=webdataset,root=tars/{000..010}.tar,tokenizer=tars.model'
"""

import ml_collections

from fgmm import components
from fgmm import config as configs
from fgmm.config.variants import given

# The fine terms by name, and how many captions a clip draws from those near it.
FINE = {
    "gated": (configs.GATED_TERM, 1),
    "info_nce": ({"name": "info_nce"}, 1),
    "mil_nce": ({"name": "mil_nce"}, 4),
}
# The pairs that files of a kind are trained on, with their weights.
KINDS = {
    "video": {"video_text": 1.0, "video_audio": 0.5, "audio_text": 0.5},
    "image": {"video_text": 1.0},
    "audio": {"audio_text": 1.0},
}
ENCODERS = {
    "video": {"name": "resnet2plus1d", "widths": (32, 64), "temporal_strides": (1, 2)},
    "image": {"name": "resnet2plus1d", "widths": (48, 96, 192), "temporal_strides": (1, 1, 1)},
    "audio": {"name": "resnet", "widths": (16, 32, 64), "stem_stride": (4, 2)},
    "text": {"name": "phrase_transformer", "width": 64},
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
    """Variants: ``source`` and its options, ``root`` among them; ``kind`` of the files, ``video``,
    ``image`` or ``audio``; ``evaluate``, the split for evaluation, empty for none; ``tokenizer``,
    ``steps`` and ``batch``; ``length`` in seconds and ``fps`` of a window, and ``size`` of its
    pictures; ``fine`` is the loss on local embeddings: ``gated``, which learns what to turn down,
    ``info_nce``, or ``mil_nce`` with a bag of captions spoken nearby.
    """
    name = given(argument, "source") or "video_folder"
    source = components.find("data.sources", name, key="variant source")
    declared = {
        option: default
        for option, default in components.options(source).items()
        if option not in ("root", "seconds") and isinstance(default, str | int | float)
    }
    variant = configs.variant(
        argument,
        **declared,
        source=name,
        root="videos",
        kind="video",
        evaluate="validation",
        tokenizer="videos.model",
        steps=2000,
        batch=32,
        length=2.0,
        fps=4.0,
        size=64,
        fine="gated",
    )
    configs.check_choices(variant, fine=FINE, kind=KINDS)
    asked = bool(given(argument, "evaluate"))
    if asked and "split" not in declared:
        raise configs.ConfigError(
            f"variant evaluate={variant.evaluate!r} names a split, and source={name!r} has none; "
            "leave it out"
        )
    config = configs.defaults()
    config.steps, config.batch_size = variant.steps, variant.batch
    entry = {"name": name, "root": variant.root}
    entry |= {option: variant[option] for option, default in declared.items()}
    (fine, bag), near = FINE[variant.fine], {}
    if "candidates" in declared:
        if not given(argument, "candidates"):
            entry["candidates"] = min(1, declared["candidates"])
        near = {"candidates": max(bag, entry["candidates"]) if bag > 1 else entry["candidates"]}
    config.data.source = {**entry, **near}
    moving = variant.kind == "video"
    config.data.update(
        seconds=variant.length,
        frames=max(1, round(variant.length * variant.fps)) if moving else 1,
        height=variant.size,
        width=variant.size,
        sample_rate=16000,
        captions=bag,
        phrases=8,
        tokens=48,
    )
    config.data.tokenizer = variant.tokenizer
    config.transforms.update(flip=True, crop_area=0.5)

    pairs = KINDS[variant.kind]
    used = {modality for pair in pairs for modality in pair.split("_")}
    for modality in sorted(used):
        still = modality == "video" and not moving
        config.model[modality] = ENCODERS["image" if still else modality]
    config.model.spaces.joint.modalities = tuple(m for m in ("video", "audio", "text") if m in used)
    if variant.fine == "gated":
        config.model.spaces.joint.update(configs.GATED_SPACE)
    for pair, weight in pairs.items():
        common = {"pair": pair, "space": "joint", "weight": weight}
        config.objective.terms[f"coarse_{pair}"] = {**common, "name": "info_nce", "level": "coarse"}
        config.objective.terms[f"fine_{pair}"] = {**common, **fine, "level": "fine"}

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule.warmup = 0.05
    if asked or (variant.evaluate and declared.get("split") and variant.get("validation", 1)):
        clips = "audio" if variant.kind == "audio" else "video"
        config.checkpoint.best_metric = f"validation/coarse/text_to_{clips}/r@10"
        config.evals.validation = {
            "name": "retrieval",
            "every": 500,
            "pair": f"{clips}_text",
            "source": {**entry, "split": variant.evaluate},
        }
    return components.complete(config)
