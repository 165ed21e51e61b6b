"""Finding components by name: a name in a config is a module's file name in its room.

There is no central list. ``name="s3d"`` in ``config.model.video`` is ``fgmm/models/video/s3d.py``.
Components need not live in this package: ``"my_lab.encoders:Patches"`` is a class of any importable
module, and ``"my_lab.encoders.s3d"``, a name with a dot, is a module that defines ``Encoder``.
"""

import dataclasses
import importlib
import importlib.util
import pkgutil
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from fgmm.config import (
    Config,
    ConfigError,
    as_dict,
    at,
    complete_model,
    defaults,
    flat,
    of_type,
    tuples,
)
from fgmm.config.optimizer import OptimizerSection
from fgmm.config.option import REQUIRED, Option, allowed, check_given, declared, shown
from fgmm.config.sections import (
    Classifier,
    EvaluationPlace,
    LabelTermPlace,
    PartPlace,
    Space,
    TermPlace,
)

# The name of the class that every component of a room defines.
_ATTRIBUTES = {
    "data.sources": "Source",
    "models.video": "Encoder",
    "models.audio": "Encoder",
    "models.text": "Encoder",
    "losses.terms": "Term",
    "eval": "Evaluation",
    "train.loggers": "Logger",
}

# Options whose value comes from another key (``seconds`` from ``data.seconds``), unless an entry
# sets them.
_FOLLOWING = {"data.sources": ("seconds",)}

# The options that an entry has besides those of its component.
_PLACES = {
    "data.sources": PartPlace,
    "losses.terms": TermPlace,
    "eval": EvaluationPlace,
    "optimizer": OptimizerSection,
}


def names(room: str) -> list[str]:
    """The names of the components in a room such as ``"models.video"``."""
    package = importlib.import_module(f"fgmm.{room}")
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if hasattr(importlib.import_module(f"fgmm.{room}.{module.name}"), _ATTRIBUTES[room])
    )


def find(room: str, name: str, *, key: str = "name") -> type:
    """Imports a component's class.

    Args:
      room: package under ``fgmm``, such as ``"data.sources"``.
      name: file name in that room; or a class elsewhere as ``module:Class``, or the dotted name of
        a module that defines the same class.
      key: where the name stands in the config, for the error.

    Raises:
      ConfigError: there is no such module, it lacks the class of the room, or it needs a package
        that is not installed.
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
        raise ConfigError(f"{key}={name!r} is unknown; {allowed(name, names(room))}")
    return getattr(module, attribute)


def options(target: Any) -> dict[str, Any]:
    """The options of a component with their defaults; ``dataclasses.MISSING`` where required."""
    return {name: option.default for name, option in declared(target).items()}


def check(target: Any, given: Config, *, key: str) -> dict[str, Any]:
    """The given options, with defaults for the others.

    Raises:
      ConfigError: an option is unknown, missing or wrong.
    """
    check_given(declared(target), given, key=key)
    complete = {**options(target), **given}
    for name, value in complete.items():
        if value is REQUIRED:
            raise ConfigError(f"{key}.{name} is required and not set")
    # JSON and ml_collections return lists, but the options of a component must be hashable.
    return tuples(complete)


def placed(room: str, entry: Config, *, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits an entry into the options of its place (such as ``TermPlace``), completed by
    defaults, and the name and options of its component.

    Raises:
      ConfigError: an option of the place is missing or wrong.
    """
    place = _place(room, entry.get("name", ""), key)
    own = {name: value for name, value in entry.items() if name in declared(place)}
    rest = {name: value for name, value in entry.items() if name not in own}
    return check(place, own, key=key), rest


def _place(room: str, name: str, key: str) -> type:
    """The dataclass that declares the options of a component's place. For terms it depends on the
    component: a supervised term needs a classifier, all others a pair.

    Raises:
      ConfigError: there is no such component.
    """
    if room != "losses.terms" or not name:
        return _PLACES[room]
    term = find(room, name, key=f"{key}.name")
    return LabelTermPlace if getattr(term, "supervised", False) else TermPlace


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
    target = find(room, entry.get("name", ""), key=f"{key}.name")
    given = {name: value for name, value in tuples(entry).items() if name != "name"}
    for name in fixed:
        if name in given:
            raise ConfigError(f"{key}.{name} cannot be set here; it follows from other keys")
    options = check(target, {**given, **fixed}, key=key)
    try:
        return target(**options)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{key}: {error}") from error


def complete(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Writes the default options of every component into the config, so that flags can override
    them and the printed config is complete. Call it last in a config file.

    Raises:
      ConfigError: a name or an option is wrong.
    """
    config = config.copy_and_resolve_references().unlock()
    for key, room in entries(config):
        entry = at(config, key)
        for name, option in options_of_entry(room, entry.get("name", ""), key).items():
            if name not in entry and option.default is not REQUIRED:
                entry[name] = option.default
    complete_model(config.model)
    return config


def settings(config: Config) -> list[str]:
    """The values of a resolved config that are not defaults, a line for each section and entry."""
    usual = flat(as_dict(defaults()))
    for name in config["model"]["spaces"]:
        usual |= _defaults(declared(Space), f"model.spaces.{name}")
    for name in config["model"].get("classifiers", {}):
        usual |= _defaults(declared(Classifier), f"model.classifiers.{name}")
    for key, room in _entries_with_sources(config):
        name = at(config, key).get("name", "")
        usual |= _defaults(options_of_entry(room, name, key), key)
    sections: dict[str, list[str]] = {}
    for key, value in sorted(flat(as_dict(config)).items()):
        if key not in usual or usual[key] != value:
            section, _, name = key.rpartition(".")
            sections.setdefault(section or "config", []).append(f"{name}={value!r}")
    return [f"{section}: {', '.join(values)}" for section, values in sections.items()]


def _defaults(options: Mapping[str, Option], key: str) -> dict[str, Any]:
    """The defaults of options in the form of a config, by full key."""
    given = {name: found.default for name, found in options.items()}
    known = {name: value for name, value in given.items() if value is not REQUIRED}
    return {f"{key}.{name}": value for name, value in flat(as_dict(known)).items()}


def options_of_entry(room: str, name: str, key: str) -> dict[str, Option]:
    """The options of a component and of its place; those that follow from other keys have no
    default.

    A protocol, whose key is empty, has no place among evaluations, and a source has one in a
    mixture alone.

    Raises:
      ConfigError: there is no such component.
    """
    alone = not key or (room == "data.sources" and ".sources." not in key)
    place = {} if alone or room not in _PLACES else declared(_place(room, name, key))
    if room == "optimizer":
        # Optimizers are functions of optax, not classes of a room.
        return importlib.import_module("fgmm.experiment.factories").declared(name) | place
    found = declared(find(room, name, key=f"{key}.name"))
    for option in _FOLLOWING.get(room, ()):
        if option in found:
            found[option] = dataclasses.replace(found[option], default=REQUIRED)
    return found | place


def renamed(config: ml_collections.ConfigDict, flags: Mapping[str, str]) -> list[str]:
    """Replaces the options of entries whose name a flag changes by those of the new component.

    Options that the config file set, and that the new component has too, keep their values; the new
    component's defaults hold for the others. An option that a flag sets and that the entry lacks is
    added, with its default or a placeholder of its type.

    Args:
      config: an experiment or an evaluation's protocol; changed in place.
      flags: the values given on the command line by key, such as ``"model.video.name"``.

    Returns:
      A line for each entry that lost options of the config file.

    Raises:
      ConfigError: a flag names a component or an option that is not there.
    """
    lines, known = [], {}
    with config.unlocked():
        _add_loggers(config, flags)
        for key, room in _entries_with_sources(config):
            entry, path = (at(config, key), f"{key}.") if key else (config, "")
            former, name = entry.get("name", ""), flags.get(f"{path}name", entry.get("name", ""))
            known[key] = options = options_of_entry(room, name, key)
            if name != former:
                left_out = _rename(entry, name, options_of_entry(room, former, key), options)
                if left_out:
                    lines.append(f"{path}name={name}: left out {', '.join(left_out)}")
            given = {flag.removeprefix(path).partition("[")[0] for flag in flags}
            for option in given & options.keys():
                if entry.get(option) is None:
                    entry[option] = _place_for(options[option])
    for key, value in flags.items():
        _check_there(config, key, value, known)
    return lines


def _add_loggers(config: ml_collections.ConfigDict, flags: Mapping[str, str]) -> None:
    """Adds an entry for each logger that a flag names, since config files name none."""
    for key, name in flags.items():
        entry = re.fullmatch(r"loggers\.(\w+)\.name", key)
        if entry and "loggers" in config and entry[1] not in config.loggers:
            config.loggers[entry[1]] = {"name": name}


def _entries_with_sources(config: Config) -> Iterator[tuple[str, str]]:
    """As ``entries``, and also the sources of evaluations and the sources inside other sources.
    The config may also be the protocol of an evaluation, which has no objective.
    """
    for key, room in entries(config) if "objective" in config else [("", "eval")]:
        yield key, room
        entry, path = (at(config, key), f"{key}.") if key else (config, "")
        sources = [key] if room == "data.sources" else []
        if room == "eval":
            sources = [f"{path}{name}" for name in ("source", "test_source") if entry.get(name)]
            for source in sources:
                _check_entry(config, source)
                yield source, "data.sources"
        for source in sources:
            yield from ((inner, "data.sources") for inner in _within(config, source))


def _within(config: Config, source: str) -> Iterator[str]:
    """The keys of the sources inside a source, at any depth."""
    entry = at(config, source)
    inner = [f"{source}.source"] if entry.get("source") else []
    for key in (*inner, *(f"{source}.sources.{part}" for part in entry.get("sources", {}))):
        _check_entry(config, key)
        yield key
        yield from _within(config, key)


def _rename(
    entry: ml_collections.ConfigDict,
    name: str,
    former: Mapping[str, Option],
    options: Mapping[str, Option],
) -> list[str]:
    """Gives an entry another component. Returns the options that were set and are now dropped."""
    set_before = {
        option: value
        for option, value in entry.items()
        if option != "name" and (option not in former or value != former[option].default)
    }
    kept = {
        option: value
        for option, value in set_before.items()
        if option in options and of_type(value, options[option].type)
    }
    for option in list(entry):
        del entry[option]
    entry.name = name
    for option, declaration in options.items():
        if option in kept or declaration.default is not REQUIRED:
            entry[option] = kept.get(option, declaration.default)
    return [
        f"{option}={shown(value)}" for option, value in set_before.items() if option not in kept
    ]


def _place_for(option: Option) -> Any:
    """The default of an option, or a placeholder for values of its type."""
    if option.default is not REQUIRED and option.default is not None:
        return option.default
    hints = (option.type, *typing.get_args(option.type))
    kinds = (typing.get_origin(hint) or hint for hint in hints)
    kind = next((kind for kind in kinds if kind in (bool, int, float, str, tuple)), object)
    return ml_collections.config_dict.placeholder(kind)


def _check_there(
    config: Config, key: str, value: str, known: Mapping[str, Mapping[str, Option]]
) -> None:
    """Raises ConfigError if a flag names neither a key of the config nor, in an entry whose key is
    in ``known``, an option of the component.
    """
    names = key.partition("[")[0].split(".")
    for depth, name in enumerate(names):
        if isinstance(config, Config) and name not in config:
            where = ".".join(names[: depth + 1])
            could_be = sorted({*config, *known.get(".".join(names[:depth]), ())})
            raise ConfigError(f"config.{where}={value} is unknown; {allowed(name, could_be)}")
        config = config[name] if isinstance(config, Config) else None


def entries(config: Config) -> list[tuple[str, str]]:
    """The keys of an experiment's config that name components, each with its room.

    Raises:
      ConfigError: what stands at such a key is no dict.
    """
    found = [("data.source", "data.sources"), ("optimizer", "optimizer")]
    for modality in ("video", "audio", "text"):
        if modality in config["model"]:
            found.append((f"model.{modality}", f"models.{modality}"))
    found += [(f"objective.terms.{name}", "losses.terms") for name in config["objective"]["terms"]]
    found += [(f"evals.{name}", "eval") for name in config["evals"]]
    found += [(f"loggers.{name}", "train.loggers") for name in config.get("loggers", {})]
    for key, _ in found:
        _check_entry(config, key)
    return found


def _check_entry(config: Config, key: str) -> None:
    """Raises ConfigError if there is no entry at a full key, or its name is no text."""
    try:
        entry = at(config, key)
    except KeyError as error:
        raise ConfigError(f"{key} is missing from the config") from error
    if not isinstance(entry, Config):
        given = f'"{entry}"' if isinstance(entry, str) else "..."
        raise ConfigError(f'{key}={entry!r} must be a dict of keys, such as {{"name": {given}}}')
    if not isinstance(name := entry.get("name", ""), str):
        raise ConfigError(f"{key}.name={name!r} must be text")
