"""Configs of earlier runs, brought over to the keys of today."""

from typing import Any


def brought_over(saved: dict[str, Any]) -> dict[str, Any]:
    """A config as an earlier version saved it, with the keys that have moved since in their places
    of today and without those that are gone. New keys are added later, by ``with_new_keys``.
    """
    for change in (_named_optimizer, _freezing_by_optimizer):
        saved = change(saved)
    return saved


def _named_optimizer(saved: dict[str, Any]) -> dict[str, Any]:
    """The optimizer was AdamW with a cosine; its options had names of their own."""
    options = dict(saved.get("optimizer", {}))
    if not options or "name" in options:
        return saved
    options |= {"name": "adamw", "eps_root": 0.0, "nesterov": False}
    for old, new in {"beta1": "b1", "beta2": "b2", "epsilon": "eps"}.items():
        if old in options:
            options[new] = options.pop(old)
    schedule = {"name": "cosine", "cooldown": 0.0}
    for old, new in {"warmup_steps": "warmup", "final_fraction": "end"}.items():
        if old in options:
            schedule[new] = options.pop(old)
    options["schedule"] = schedule
    scales = options.get("learning_rate_scale", ())
    if [list(rule) for rule in scales] == [[".*", 1.0]]:
        options["learning_rate_scale"] = ()
    return {**saved, "optimizer": options}


def _freezing_by_optimizer(saved: dict[str, Any]) -> dict[str, Any]:
    """Freezing was an action of ``init_from``, whose first rule on a name of the model held; what
    was loaded and frozen is loaded, and frozen by the optimizer.
    """
    entry, options = saved.get("init_from", {}), saved.get("optimizer", {})
    rules = [list(rule) for rule in entry.get("rules", ())]
    if "freeze" not in [action for _, action in rules]:
        return saved
    frozen, excepted = [], []
    for regex, action in rules:
        if action == "initialise":
            excepted.append(f"(?:{regex})")
        elif action == "freeze":
            # What an earlier rule initialised was not frozen.
            but = rf"(?!(?:{'|'.join(excepted)})\Z)" if excepted else ""
            frozen.append((f"{but}(?:{regex})" if but else regex, "frozen"))
    loaded = [(regex, "load" if action == "freeze" else action) for regex, action in rules]
    scales = (*frozen, *options.get("learning_rate_scale", ()))
    return {
        **saved,
        "init_from": {**entry, "rules": tuple(loaded)},
        "optimizer": {**options, "learning_rate_scale": scales},
    }
