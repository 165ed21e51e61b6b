"""The spaces of a model, from its config: options checked and completed."""

from collections.abc import Mapping
from typing import Any

from fgmm.config import SPACE_DEFAULTS, Config, ConfigError, of_type, plain

POOLS = ("mean", "max", "gate")
GATES = ("none", "linear", "hidden")
EMBEDDING_DTYPES = ("float32", "bfloat16")


def checked(spaces: Config, modalities: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The options of every space as ``MultiModal`` takes them, ``hidden`` as a dict by modality.

    Args:
      spaces: ``config.model.spaces``, with ``SPACE_DEFAULTS`` filled in.
      modalities: those that the model has encoders for.

    Raises:
      ConfigError: an option is unknown, missing or wrong, or a space is reached through one that is
        not there, leads back, or has no modality of it.
    """
    complete = {name: _space(name, plain(entry), modalities) for name, entry in spaces.items()}
    for name in complete:
        _check_through(name, complete)
    return complete


def _space(name: str, entry: dict[str, Any], modalities: tuple[str, ...]) -> dict[str, Any]:
    key = f"model.spaces.{name}"
    types = {"modalities": tuple, "width": int}
    types |= {option: type(value) for option, value in SPACE_DEFAULTS.items()}
    for option, value in entry.items():
        if option not in types:
            raise ConfigError(f"{key}.{option}={value!r} is unknown; allowed: {', '.join(types)}")
        # Widths of hidden layers may also be given by modality.
        if option != "hidden" and not of_type(value, types[option]):
            raise ConfigError(f"{key}.{option}={value!r} is not of type {types[option].__name__}")
    for option in types:
        if option not in entry:
            raise ConfigError(f"{key}.{option} is required and not set")
    if entry["width"] < 1:
        raise ConfigError(f"{key}.width={entry['width']} must be at least 1")
    if entry["pool"] not in POOLS:
        raise ConfigError(f"{key}.pool={entry['pool']!r} is unknown; allowed: {', '.join(POOLS)}")
    if entry["gate"] not in GATES:
        raise ConfigError(f"{key}.gate={entry['gate']!r} is unknown; allowed: {', '.join(GATES)}")
    if entry["pool"] == "gate" and entry["gate"] == "none":
        raise ConfigError(f"{key}.pool='gate' needs a gate: set {key}.gate to linear or hidden")
    if entry["dtype"] not in EMBEDDING_DTYPES:
        raise ConfigError(
            f"{key}.dtype={entry['dtype']!r} is unknown; allowed: {', '.join(EMBEDDING_DTYPES)}"
        )
    members = tuple(entry["modalities"])
    for modality in members:
        if modality not in modalities:
            raise ConfigError(
                f"{key}.modalities names {modality!r}, which has no encoder; the model has: "
                + ", ".join(modalities)
            )
    return {**entry, "modalities": members, "hidden": _hidden(key, entry["hidden"], members)}


def _hidden(key: str, given: Any, members: tuple[str, ...]) -> dict[str, int]:
    """The widths of hidden layers by modality; one number is that of all."""
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
            f"{key}.through={space['through']!r} has none of the modalities of {name}, "
            f"{', '.join(space['modalities'])}; it has {', '.join(earlier)}"
        )
    if len({space["hidden"][modality] for modality in shared}) > 1:
        raise ConfigError(
            f"{key}.hidden={space['hidden']!r}: {' and '.join(shared)} come through "
            f"{space['through']} by one projection; give them the same"
        )
