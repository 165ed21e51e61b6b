"""The spaces of a model, from its config: options checked and completed."""

from collections.abc import Mapping
from typing import Any

from fgmm.config import Config, ConfigError, of_type, plain
from fgmm.config.option import check_given, declared
from fgmm.config.sections import Space


def checked(spaces: Config, modalities: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The options of every space as ``MultiModal`` takes them, ``hidden`` as a dict by modality.

    Args:
      spaces: ``config.model.spaces``, with the defaults of ``Space`` filled in.
      modalities: the modalities that the model has encoders for.

    Raises:
      ConfigError: an option is unknown, missing or wrong, a modality has no encoder, or a space is
        reached through one that is missing, that leads back to it, or that shares no modality with
        it.
    """
    complete = {name: _space(name, plain(entry), modalities) for name, entry in spaces.items()}
    for name in complete:
        _check_through(name, complete)
    return complete


def _space(name: str, entry: dict[str, Any], modalities: tuple[str, ...]) -> dict[str, Any]:
    key = f"model.spaces.{name}"
    options = declared(Space)
    check_given(options, entry, key=key)
    for option in options:
        if option not in entry:
            raise ConfigError(f"{key}.{option} is required and not set")
    if entry["pool"] == "gate" and entry["gate"] == "none":
        raise ConfigError(f"{key}.pool='gate' needs a gate: set {key}.gate to linear or hidden")
    members = tuple(entry["modalities"])
    for modality in members:
        if modality not in modalities:
            raise ConfigError(
                f"{key}.modalities names {modality!r}, which has no encoder; the model has: "
                + ", ".join(modalities)
            )
    return {**entry, "modalities": members, "hidden": _hidden(key, entry["hidden"], members)}


def _hidden(key: str, given: Any, members: tuple[str, ...]) -> dict[str, int]:
    """The widths of hidden layers by modality; a single number holds for all."""
    widths = given if isinstance(given, Mapping) else dict.fromkeys(members, given)
    for modality, width in widths.items():
        if modality not in members:
            raise ConfigError(
                f"{key}.hidden names {modality!r}, which has no part in the space; allowed: "
                + ", ".join(members)
            )
        if not of_type(width, int) or width < 0:
            raise ConfigError(
                f"{key}.hidden={given!r} must be an int of at least 0, or a dict of such by "
                "modality"
            )
    return {modality: widths.get(modality, 0) for modality in members}


def _check_through(name: str, spaces: Mapping[str, Mapping[str, Any]]) -> None:
    space, key = spaces[name], f"model.spaces.{name}"
    through = space["through"]
    if not through:
        return
    others = [other for other in spaces if other != name]
    if through not in others:
        allowed = ", ".join(others) or "none, there is no other space"
        raise ConfigError(f"{key}.through={through!r} is unknown; allowed: {allowed}")
    passed = [name]
    while through in spaces:
        passed.append(through)
        if through in passed[:-1]:
            raise ConfigError(
                f"{key}.through={space['through']!r} leads in a circle: {' -> '.join(passed)}"
            )
        through = spaces[through]["through"]
    earlier = spaces[space["through"]]["modalities"]
    shared = [modality for modality in space["modalities"] if modality in earlier]
    if not shared:
        raise ConfigError(
            f"{key}.through={space['through']!r} shares no modality with {name} "
            f"({', '.join(space['modalities'])}); it has {', '.join(earlier)}"
        )
    if len({space["hidden"][modality] for modality in shared}) > 1:
        raise ConfigError(
            f"{key}.hidden={space['hidden']!r}: {' and '.join(shared)} come through "
            f"{space['through']} by one projection; give them the same"
        )
