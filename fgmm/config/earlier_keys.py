"""Configs of earlier versions, translated to the keys of this version."""

import copy
from typing import Any

from fgmm.config.optimizer import UNDECAYED

# The rule of weight decay in earlier defaults and configs.
_FORMER_RULES = (
    ".*(bias|scale|temperature.*|null.*)$",
    ".*(bias|scale|temperature.*|null.*)",
)
# Options of earlier sources; sizes in ``data`` replace them.
_SIZES = ("size", "fps", "frames")
# Sources that render their clips: they keep options of these names.
_RENDERED = ("narrated_shapes",)
# The length of a window, in seconds, where an earlier entry does not set it.
_SECONDS = {
    **dict.fromkeys(("esc10", "esc50", "fight_clips", "hmdb51", "kinetics"), 2.0),
    **dict.fromkeys(("labelled_folder", "tux_stamps", "ucf101", "video_folder"), 2.0),
    **dict.fromkeys(("howto100m", "prepared"), 3.2),
    **dict.fromkeys(("msr_vtt", "youcook2"), 0.0),
}


def brought_over(saved: dict[str, Any]) -> dict[str, Any]:
    """Moves the keys of an earlier config to where this version has them, and drops those that
    this version lacks. ``with_new_keys`` then adds new keys.
    """
    saved = copy.deepcopy(saved)
    _name_weighting(saved)
    _name_optimizer(saved)
    _freeze_by_optimizer(saved)
    _pixels_by_channel(saved)
    _name_undecayed(saved)
    _one_length_of_windows(saved)
    return saved


def _name_weighting(saved: dict[str, Any]) -> None:
    """Renames ``phrase_weights`` of ``info_nce`` and ``sigmoid`` to ``weighting``."""
    for entry in saved.get("objective", {}).get("terms", {}).values():
        if entry.get("name") in ("info_nce", "sigmoid") and "phrase_weights" in entry:
            entry["weighting"] = entry.pop("phrase_weights")


def _one_length_of_windows(saved: dict[str, Any]) -> None:
    """Replaces ``data.audio_seconds`` by ``data.seconds``; drops sizes of pictures from sources.

    Earlier sources set the length of their windows. The training source loses this option if it
    equals ``data.seconds``. Otherwise it keeps it: such a run can be opened but not resumed. The
    sources of evaluations keep it.
    """
    data = saved.get("data", {})
    if "audio_seconds" not in data:
        return
    seconds = data.pop("audio_seconds")
    data["source"] = _without_sizes(data["source"])
    lengths = {entry["seconds"] for entry in _entries(data["source"]) if "seconds" in entry}
    if "audio" not in saved["model"] and len(lengths - {0}) == 1:
        (seconds,) = lengths - {0}
    for entry in _entries(data["source"]):
        if entry.get("seconds") == seconds:
            del entry["seconds"]
    data["seconds"] = seconds
    for entry in saved.get("evals", {}).values():
        for key in ("source", "test_source"):
            if entry.get(key):
                entry[key] = _without_sizes(entry[key])


def _without_sizes(source: dict[str, Any]) -> dict[str, Any]:
    """A source, or a mixture of sources, without sizes of pictures and with ``seconds``."""
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


def _entries(source: dict[str, Any]) -> list[dict[str, Any]]:
    """The source itself, or the parts of a mixture."""
    return [*source["sources"].values()] if source.get("name") == "mixture" else [source]


def _name_optimizer(saved: dict[str, Any]) -> None:
    """Earlier configs had AdamW with a cosine schedule only, under other names of options."""
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
    """Moves freezing from ``init_from`` to the optimizer: the action ``freeze`` becomes ``load``,
    and a rule of ``learning_rate_scale`` freezes the same arrays.
    """
    rules = saved.get("init_from", {}).get("rules", ())
    if "freeze" not in [action for _, action in rules]:
        return
    frozen, excepted = [], []
    for regex, action in rules:
        if action == "initialise":
            excepted.append(f"(?:{regex})")
        elif action == "freeze":
            # An array that an earlier rule initialised was not frozen.
            but = rf"(?!(?:{'|'.join(excepted)})\Z)" if excepted else ""
            frozen.append((f"{but}(?:{regex})" if but else regex, "frozen"))
    saved["init_from"]["rules"] = tuple(
        (regex, "load" if action == "freeze" else action) for regex, action in rules
    )
    options = saved.setdefault("optimizer", {})
    options["learning_rate_scale"] = (*frozen, *options.get("learning_rate_scale", ()))


def _name_undecayed(saved: dict[str, Any]) -> None:
    """Adds class tokens and noise rates to the parameters that have no weight decay."""
    rules = saved.get("optimizer", {}).get("weight_decay", ())
    found = [(UNDECAYED if regex in _FORMER_RULES else regex, value) for regex, value in rules]
    if found:
        saved["optimizer"]["weight_decay"] = tuple(found)


def _pixels_by_channel(saved: dict[str, Any]) -> None:
    """Repeats the mean and the spread of pixels, once one number each, for each colour."""
    transforms = saved.get("transforms", {})
    for name in ("pixel_mean", "pixel_spread"):
        if isinstance(transforms.get(name), int | float):
            transforms[name] = (float(transforms[name]),) * 3
