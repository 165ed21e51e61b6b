"""Configs of earlier runs, brought over to the keys of today."""

from typing import Any


def brought_over(saved: dict[str, Any]) -> dict[str, Any]:
    """A config as an earlier version saved it, with the keys that have moved since in their places
    of today and without those that are gone. New keys are added later, by ``with_new_keys``.

    Args:
      saved: it is changed in place.
    """
    _name_weighting(saved)
    _name_optimizer(saved)
    _freeze_by_optimizer(saved)
    return saved


def _name_weighting(saved: dict[str, Any]) -> None:
    """``phrase_weights`` of terms on one score for each clip and caption is ``weighting``."""
    for entry in saved.get("objective", {}).get("terms", {}).values():
        if entry.get("name") in ("info_nce", "sigmoid") and "phrase_weights" in entry:
            entry["weighting"] = entry.pop("phrase_weights")


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
    """Freezing was an action of ``init_from``, whose first rule on a name of the model held; what
    was loaded and frozen is loaded, and frozen by the optimizer.
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
