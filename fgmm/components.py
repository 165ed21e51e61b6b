"""Finding components by name: a name in a config is a module's file name in its room.

There is no central list. ``name="s3d"`` in ``config.model.video`` is ``fgmm/models/video/s3d.py``.
Components need not live in this package: ``"my_lab.encoders:Patches"`` is a class of any importable
module, and ``"my_lab.encoders.s3d"``, a name with a dot, is what that module defines as
``Encoder``.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from fgmm.config import Config, ConfigError, at, of_type, plain, with_space_defaults

# Fields that flax gives to every module; they are no options.
_FLAX_FIELDS = {"parent", "name"}


# The name that every component of a room defines.
_ATTRIBUTES = {
    "data.sources": "Source",
    "models.video": "Encoder",
    "models.audio": "Encoder",
    "models.text": "Encoder",
    "losses.terms": "Term",
    "eval": "Evaluation",
}

# Options that follow from other keys, ``seconds`` from ``data.seconds``, unless an entry has them.
_FOLLOWING = {"data.sources": ("seconds",)}

# What an entry holds beside the options of its component.
_OF_ENTRY = {"losses.terms": {"level": "fine", "weight": 1.0}, "eval": {"every": 0}}


def names(room: str) -> list[str]:
    """The names of the components in a room such as ``"models.video"``."""
    package = importlib.import_module(f"fgmm.{room}")
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(
        name
        for name in modules
        if hasattr(importlib.import_module(f"fgmm.{room}.{name}"), _ATTRIBUTES[room])
    )


def find(room: str, name: str, *, key: str = "name") -> type:
    """Imports a component's class.

    Args:
      room: package under ``fgmm``, such as ``"data.sources"``.
      name: file name in that room; or a class elsewhere as ``module:Class``, or the dotted name of
        a module that defines what the room's modules do.
      key: where the name stands in the config, for the error.

    Raises:
      ConfigError: there is no such module, or it does not define what the room's modules do.
    """
    path, colon, attribute = name.partition(":")
    if not colon:
        attribute = _ATTRIBUTES[room]
        path = name if "." in name else f"fgmm.{room}.{name}"
    try:
        module = importlib.import_module(path) if name and path else None
    except ModuleNotFoundError as error:
        if not path.startswith(error.name or path):
            raise ConfigError(f"{key}={name!r} needs the package {error.name!r}") from error
        module = None
    if colon and not isinstance(getattr(module, attribute, None), type):
        raise ConfigError(
            f"{key}={name!r} is unknown: there is no class {attribute!r} in a module {path!r}"
        )
    if not hasattr(module, attribute):
        raise ConfigError(f"{key}={name!r} is unknown; allowed: {', '.join(names(room))}")
    return getattr(module, attribute)


def options(target: Any) -> dict[str, Any]:
    """The options of a component with their defaults; ``dataclasses.MISSING`` where required."""
    if dataclasses.is_dataclass(target):
        found = {}
        for field in dataclasses.fields(target):
            if field.init and field.name not in _FLAX_FIELDS:
                factory = field.default_factory
                found[field.name] = (
                    factory() if factory is not dataclasses.MISSING else field.default
                )
        return found
    return {
        name: dataclasses.MISSING if parameter.default is parameter.empty else parameter.default
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def check(target: Any, given: Mapping[str, Any], *, key: str) -> dict[str, Any]:
    """The given options completed by defaults.

    Raises:
      ConfigError: an option is unknown, missing or of a wrong type.
    """
    allowed = options(target)
    plain_class = inspect.isclass(target) and not dataclasses.is_dataclass(target)
    hints = typing.get_type_hints(target.__init__ if plain_class else target)
    for name, value in given.items():
        if name not in allowed:
            raise ConfigError(
                f"{key}.{name}={value!r} is unknown; allowed: {', '.join(sorted(allowed))}"
            )
        if not of_type(value, hints.get(name, Any)):
            raise ConfigError(f"{key}.{name}={value!r} is not of type {_spell(hints[name])}")
    complete = {**allowed, **given}
    for name, value in complete.items():
        if value is dataclasses.MISSING:
            raise ConfigError(f"{key}.{name} is required and not set")
    return {name: _frozen(value) for name, value in complete.items()}


def build(room: str, entry: Config, *, key: str, **fixed: Any) -> Any:
    """Makes the component that a config entry describes.

    Args:
      room: package under ``fgmm``.
      entry: ``{"name": ..., option: value, ...}``.
      key: where the entry stands in the config, for errors.
      fixed: options given by the caller; a config cannot set them.

    Raises:
      ConfigError: the name or an option is wrong.
    """
    entry = plain(entry)
    target = find(room, entry.get("name", ""), key=f"{key}.name")
    given = {name: _frozen(value) for name, value in entry.items() if name != "name"}
    for name in fixed:
        if name in given:
            raise ConfigError(f"{key}.{name} cannot be set here; it follows from other keys")
    try:
        return target(**check(target, {**given, **fixed}, key=key))
    except ConfigError:
        raise
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{key}: {error}") from error


def complete(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Writes every component's default options into the config, so that each can be overridden by a
    flag and the printed config is whole. Call it last in a config file.

    Raises:
      ConfigError: a name or an option is wrong.
    """
    config = config.copy_and_resolve_references().unlock()
    for key, room in _component_entries(config):
        entry = at(config, key)
        component = find(room, entry.get("name", ""), key=f"{key}.name")
        defaults_of_entry = options(component) | _OF_ENTRY.get(room, {})
        for name, value in defaults_of_entry.items():
            follows = name in _FOLLOWING.get(room, ())
            if name not in entry and value is not dataclasses.MISSING and not follows:
                entry[name] = value
    factories = importlib.import_module("fgmm.experiment.factories")
    for name, value in factories.options(config.optimizer.name).items():
        if name not in config.optimizer:
            config.optimizer[name] = value
    config.model.spaces = with_space_defaults(config.model.spaces)
    return config


def _component_entries(config: Config) -> list[tuple[str, str]]:
    entries = [("data.source", "data.sources")]
    for modality in ("video", "audio", "text"):
        if modality in config["model"]:
            entries.append((f"model.{modality}", f"models.{modality}"))
    entries += [
        (f"objective.terms.{name}", "losses.terms") for name in config["objective"]["terms"]
    ]
    entries += [(f"evals.{name}", "eval") for name in config["evals"]]
    return entries


def _spell(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)


def _frozen(value: Any) -> Any:
    """JSON and ml_collections hand out lists; components are hashable, so they get tuples."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value
