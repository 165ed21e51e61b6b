"""Configs of earlier runs, brought over to the keys of today."""

import copy
from collections.abc import Iterator
from typing import Any

# Options of earlier sources that the sizes of a batch have replaced.
_SIZES = ("size", "fps", "frames")
# Sources that render their clips, whose options of these names stay.
_RENDERED = ("narrated_shapes",)
# Seconds of a window in entries without the option.
_SECONDS = {
    **dict.fromkeys(("esc10", "esc50", "fight_clips", "hmdb51", "kinetics"), 2.0),
    **dict.fromkeys(("labelled_folder", "tux_stamps", "ucf101", "video_folder"), 2.0),
    **dict.fromkeys(("howto100m", "prepared"), 3.2),
    **dict.fromkeys(("msr_vtt", "youcook2"), 0.0),
}


def brought_over(saved: dict[str, Any]) -> dict[str, Any]:
    """A config of an earlier version with its keys in their places of today, without those that are
    gone. ``with_new_keys`` adds new keys later.
    """
    saved = copy.deepcopy(saved)
    _name_weighting(saved)
    _name_optimizer(saved)
    _freeze_by_optimizer(saved)
    _pixels_by_channel(saved)
    return _one_length_of_windows(saved)


def _name_weighting(saved: dict[str, Any]) -> None:
    """``phrase_weights`` of terms on one score for each clip and caption is ``weighting``."""
    for entry in saved.get("objective", {}).get("terms", {}).values():
        if entry.get("name") in ("info_nce", "sigmoid") and "phrase_weights" in entry:
            entry["weighting"] = entry.pop("phrase_weights")


def _one_length_of_windows(saved: dict[str, Any]) -> dict[str, Any]:
    """``data.seconds`` for ``data.audio_seconds``, and sources without sizes of pictures.

    Sources used to say how long their windows are. An entry for training loses its length if it
    agrees with ``data.seconds``. Otherwise it keeps its length: such a run opens, but cannot be
    resumed. Evaluations keep theirs.
    """
    if "audio_seconds" not in saved.get("data", {}):
        return saved
    data = dict(saved["data"])
    seconds = data.pop("audio_seconds")
    data["source"] = _without_sizes(data["source"])
    lengths = {entry["seconds"] for entry in _entries(data["source"]) if "seconds" in entry}
    if "audio" not in saved["model"] and len(lengths - {0}) == 1:
        (seconds,) = lengths - {0}
    for entry in _entries(data["source"]):
        if entry.get("seconds") == seconds:
            del entry["seconds"]
    evals = {name: _evaluation(entry) for name, entry in saved.get("evals", {}).items()}
    return {**saved, "data": {**data, "seconds": seconds}, "evals": evals}


def _evaluation(entry: dict[str, Any]) -> dict[str, Any]:
    sources = {key: entry[key] for key in ("source", "test_source") if entry.get(key)}
    return {**entry, **{key: _without_sizes(source) for key, source in sources.items()}}


def _without_sizes(source: dict[str, Any]) -> dict[str, Any]:
    """A source, or a mixture, without sizes and with its seconds."""
    source = dict(source)
    name = source.get("name", "")
    if name == "mixture":
        parts = source.get("sources", {})
        return {**source, "sources": {key: _without_sizes(part) for key, part in parts.items()}}
    if name == "image_sequence" and "frames" in source:
        source["pages"] = source["frames"]
    if not {".", ":"} & set(name) and name not in _RENDERED:
        source = {key: value for key, value in source.items() if key not in _SIZES}
    return {"seconds": _SECONDS[name], **source} if name in _SECONDS else source


def _entries(source: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A source, or the parts of a mixture."""
    yield from source["sources"].values() if source.get("name") == "mixture" else (source,)


def _name_optimizer(saved: dict[str, Any]) -> None:
    """The optimizer was AdamW with a cosine; its options had names of their own."""
    options = saved.get("optimizer", {})
    if not options or "name" in options:
        return
    schedule = options["schedule"] = {"name": "cosine", "cooldown": 0.0}
    for old, section, new in (
        ("beta1", options, "b1"),
        ("beta2", options, "b2"),
        ("epsilon", options, "eps"),
        ("warmup_steps", schedule, "warmup"),
        ("final_fraction", schedule, "end"),
    ):
        if old in options:
            section[new] = options.pop(old)
    options |= {"name": "adamw", "eps_root": 0.0, "nesterov": False}
    if [list(rule) for rule in options.get("learning_rate_scale", ())] == [[".*", 1.0]]:
        options["learning_rate_scale"] = ()


def _freeze_by_optimizer(saved: dict[str, Any]) -> None:
    """Freezing was an action of ``init_from`` and is a rule of the optimizer now. What
    ``init_from`` loaded and froze, it loads, and the optimizer freezes it.
    """
    rules = saved.get("init_from", {}).get("rules", ())
    if "freeze" not in [action for _, action in rules]:
        return
    frozen, excepted = [], []
    for regex, action in rules:
        if action == "initialise":
            excepted.append(f"(?:{regex})")
        elif action == "freeze":
            # What an earlier rule initialised was not frozen.
            but = rf"(?!(?:{'|'.join(excepted)})\Z)" if excepted else ""
            frozen.append((f"{but}(?:{regex})" if but else regex, "frozen"))
    saved["init_from"]["rules"] = tuple(
        (regex, "load" if action == "freeze" else action) for regex, action in rules
    )
    options = saved.setdefault("optimizer", {})
    options["learning_rate_scale"] = (*frozen, *options.get("learning_rate_scale", ()))


def _pixels_by_channel(saved: dict[str, Any]) -> None:
    """The mean and the spread of pixels were one number each, and are one for each colour."""
    transforms = saved.get("transforms", {})
    for name in ("pixel_mean", "pixel_spread"):
        if isinstance(transforms.get(name), int | float):
            transforms[name] = (float(transforms[name]),) * 3
