"""Finding components by name: a name in a config is a module's file name in its room.

There is no central list. ``name="s3d"`` in ``config.model.video`` is ``fgmm/models/video/s3d.py``;
a name with a dot, such as ``"my_lab.encoders.s3d"``, is any importable module, so components need
not live in this package.
"""

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
import types
import typing
from collections.abc import Mapping
from typing import Any

from fgmm.config import Config, ConfigError, plain

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
      name: file name in that room, or the dotted name of a module elsewhere.
      key: where the name stands in the config, for the error.

    Raises:
      ConfigError: there is no such module, or it does not define what the room's modules do.
    """
    path = name if "." in name else f"fgmm.{room}.{name}"
    try:
        module = importlib.import_module(path) if name else None
    except ModuleNotFoundError as error:
        if not path.startswith(error.name or path):
            raise ConfigError(f"{key}={name!r} needs the package {error.name!r}") from error
        module = None
    if not hasattr(module, _ATTRIBUTES[room]):
        raise ConfigError(f"{key}={name!r} is unknown; allowed: {', '.join(names(room))}")
    return getattr(module, _ATTRIBUTES[room])


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


def of_type(value: Any, hint: Any) -> bool:
    """Whether a config value has a type: int counts as float, bool is no int, a list is a tuple."""
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(of_type(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is tuple or hint is tuple:
        parts = [part for part in typing.get_args(hint) if part is not Ellipsis]
        if not isinstance(value, tuple | list):
            return False
        if Ellipsis in typing.get_args(hint) or not parts:
            return all(of_type(item, part) for item in value for part in parts)
        return len(value) == len(parts) and all(map(of_type, value, parts))
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    plain = origin or hint
    return not isinstance(plain, type) or isinstance(value, plain)


def _spell(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)


def _frozen(value: Any) -> Any:
    """JSON and ml_collections hand out lists; components are hashable, so they get tuples."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value
