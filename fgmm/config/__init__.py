"""Defaults, validation and the resolved config. ``fgmm.config.sections`` declares the options."""

import json
from typing import Any

import ml_collections

from fgmm.config.earlier_keys import brought_over
from fgmm.config.gated import GATED_SPACE, GATED_TERM
from fgmm.config.option import (
    REQUIRED,
    Config,
    ConfigError,
    check_given,
    declared,
    is_section,
    of_type,
)
from fgmm.config.sections import Classifier, Options, Space
from fgmm.config.variants import check_choices, variant

__all__ = [
    "GATED_SPACE",
    "GATED_TERM",
    "Config",
    "ConfigError",
    "as_dict",
    "at",
    "check_choices",
    "check_keys",
    "complete_model",
    "completed",
    "defaults",
    "differences",
    "flat",
    "of_type",
    "plain",
    "tuples",
    "variant",
    "with_new_keys",
    "with_space_defaults",
]


def defaults() -> ml_collections.ConfigDict:
    """The keys of every config with their default values, which fix their types. A config file
    fills in the parts that name components: ``data.source``, ``model``, ``objective.terms`` and
    ``evals``.
    """
    return ml_collections.ConfigDict(_complete({}))


def check_keys(config: Config) -> None:
    """Compares a config with the options of ``fgmm.config.sections``.

    Raises:
      ConfigError: a key is unknown or missing, or a value is wrong.
    """
    _check_section(Options, config, "")


def _check_section(section: type, given: Config, key: str, is_open: bool = False) -> None:
    options = declared(section)
    known = {name: value for name, value in given.items() if name in options or not is_open}
    check_given(options, known, key=key)
    for name, option in options.items():
        where = f"{key}.{name}" if key else name
        if name not in given:
            raise ConfigError(f"{where} is missing from the config; see fgmm/config/sections.py")
        if is_section(option.type):
            if not isinstance(given[name], Config):
                raise ConfigError(f"{where}={given[name]!r} must be a dict of keys")
            _check_section(option.type, given[name], where, option.open)


def with_new_keys(saved: Config) -> dict[str, Any]:
    """A saved config with the keys of this version.

    So the default of a new key must give the behaviour that there was without the key.
    """
    return _complete(brought_over(plain(saved)))


def completed(config: Config) -> dict[str, Any]:
    """The config with defaults for the options that its sections leave out. A config file leaves
    options out if it replaces a section by a dict.
    """
    return _with_defaults(Options, config)


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    complete = completed(config)
    complete_model(complete["model"])
    return complete


def _with_defaults(section: type, given: Config) -> dict[str, Any]:
    result = plain(given)
    for name, option in declared(section).items():
        if is_section(option.type):
            inner = given.get(name, {})
            # ``check_keys`` refuses a value that is not a dict.
            result[name] = (
                _with_defaults(option.type, inner) if isinstance(inner, Config) else inner
            )
        elif option.default is not REQUIRED:
            result.setdefault(name, option.default)
    return result


def with_space_defaults(spaces: Any) -> dict[str, dict[str, Any]]:
    """The spaces of a model with the defaults of ``fgmm.config.sections.Space``.

    Raises:
      ConfigError: they, or an entry, are not a dict.
    """
    return _entries_with_defaults(Space, spaces, "model.spaces")


def complete_model(model: Config) -> None:
    """Adds the defaults of its spaces and its classifiers to ``config.model``, in place.

    Raises:
      ConfigError: spaces or classifiers, or an entry of them, are not a dict.
    """
    model["spaces"] = with_space_defaults(model.get("spaces", {}))
    if "classifiers" in model:
        entries = _entries_with_defaults(Classifier, model["classifiers"], "model.classifiers")
        model["classifiers"] = entries


def _entries_with_defaults(section: type, given: Any, key: str) -> dict[str, dict[str, Any]]:
    if not isinstance(given, Config):
        raise ConfigError(f"{key}={given!r} must be a dict of entries")
    for name, entry in given.items():
        if not isinstance(entry, Config):
            raise ConfigError(f"{key}.{name}={entry!r} must be a dict of keys")
    return {name: _with_defaults(section, entry) for name, entry in given.items()}


def at(config: Config, key: str) -> Any:
    """The value at a full key, such as ``"optimizer.learning_rate"``."""
    for part in key.split("."):
        config = config[part]
    return config


def plain(config: Config) -> dict[str, Any]:
    """The config as a dict of dicts."""
    return {k: plain(v) if isinstance(v, Config) else v for k, v in config.items()}


def tuples(value: Any) -> Any:
    """A config as a dict of dicts, or a value of one, with tuples for lists, since JSON turns
    tuples into lists.
    """
    if isinstance(value, Config):
        return {name: tuples(inner) for name, inner in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def as_dict(config: Config) -> dict[str, Any]:
    """The config as a dict of dicts that JSON keeps unchanged: tuples become lists."""
    return json.loads(json.dumps(plain(config)))


def differences(saved: Config, current: Config) -> list[str]:
    """The changes of keys that forbid resuming, as ``key: saved -> current``."""
    flat_saved, flat_current = flat(as_dict(saved)), flat(as_dict(current))
    lines = []
    for key in sorted(flat_saved.keys() | flat_current.keys()):
        before, after = flat_saved.get(key), flat_current.get(key)
        if before != after and not _is_operational(key):
            lines.append(f"{key}: {before!r} -> {after!r}")
    return lines


def _is_operational(key: str) -> bool:
    """Whether a key may change when a run is resumed."""
    section = Options
    for name in key.split("."):
        option = declared(section).get(name)
        if option is None or option.operational:
            return option is not None
        if not is_section(option.type):
            return False
        section = option.type
    return False


def flat(config: Config, path: str = "") -> dict[str, Any]:
    """The values by their full keys, such as ``"optimizer.learning_rate"``."""
    values = {}
    for name, value in config.items():
        if isinstance(value, Config) and value:
            values |= flat(value, f"{path}{name}.")
        else:
            values[f"{path}{name}"] = value
    return values
