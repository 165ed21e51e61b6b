"""An option is declared once: its type, its default, its bounds or choices and its meaning.

Options are the fields of a dataclass, or the keyword arguments of a function or a class. In both
cases ``check_given`` checks the values that a config gives.
"""

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections

# To Python's type system ConfigDict is not a Mapping.
Config = Mapping | ml_collections.ConfigDict

REQUIRED = dataclasses.MISSING

# Fields that flax adds to every module; they are not options.
_FLAX_FIELDS = {"parent", "name"}


class ConfigError(ValueError):
    """A config that cannot be run. The message is one line with the key, the value and a remedy."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option as it is declared.

    Attributes:
      type: a type hint.
      default: its value if the config does not set it; ``REQUIRED`` if the config must.
      low, high: inclusive bounds; None for no bound.
      above, below: exclusive bounds; None for no bound.
      choices: the values allowed; empty for any.
      operational: whether it may change when a run is resumed.
      open: for a section: whether it also holds the options of the component that its ``name``
        names.
      help: what it means, in a line.
    """

    type: Any
    default: Any
    low: int | float | None = None
    high: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None
    choices: Sequence[Any] = ()
    operational: bool = False
    open: bool = False
    help: str = ""

    @property
    def limits(self) -> str:
        """The bounds in words; empty if there are none."""
        if self.low is not None and self.high is not None:
            return f"from {self.low} to {self.high}"
        words = {"at least": self.low, "above": self.above, "at most": self.high}
        words["below"] = self.below
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)

    def check(self, value: Any, key: str) -> None:
        """Checks a value that a config gives under ``key``.

        Raises:
          ConfigError: the value is of another type, out of bounds, not among the choices, or not
            finite.
        """
        if is_section(self.type) or self.type is Mapping:
            if not isinstance(value, Config):
                raise ConfigError(f"{key}={shown(value)} must be a dict of keys")
            if is_section(self.type):
                return  # Its keys are checked one by one.
        elif not of_type(value, self.type):
            raise ConfigError(f"{key}={shown(value)} is not of type {_spelled(self.type)}")
        self.check_range(value, key)

    def check_range(self, value: Any, key: str) -> None:
        """Checks a value whose type is known to be right.

        Raises:
          ConfigError: the value is out of bounds, not among the choices, or not finite.
        """
        if self.choices and value not in self.choices:
            raise ConfigError(f"{key}={shown(value)} is unknown; {allowed(value, self.choices)}")
        if self.limits and value in ((), []):
            raise ConfigError(f"{key}={shown(value)} must hold at least one number")
        for where, given, number in _numbers(value, key):
            if not math.isfinite(number):
                raise ConfigError(f"{where}={shown(given)} must be finite")
            if not self._within(number):
                raise ConfigError(f"{where}={shown(given)} must be {self.limits}")

    def _within(self, number: int | float) -> bool:
        return not (
            (self.low is not None and number < self.low)
            or (self.high is not None and number > self.high)
            or (self.above is not None and number <= self.above)
            or (self.below is not None and number >= self.below)
        )


_LIMITS = {field.name for field in dataclasses.fields(Option)} - {"type", "default"}


def option(default: Any = REQUIRED, **limits: Any) -> Any:
    """A field of a dataclass of options. Its type is the field's annotation.

    Args:
      default: its value if the config does not set it; without a default the option is required.
      limits: further attributes of ``Option``, such as ``low=1`` or ``help="In Hz."``.
    """
    assert limits.keys() <= _LIMITS, limits
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=limits)
    return dataclasses.field(default=default, metadata=limits)


def declared(target: Any) -> dict[str, Option]:
    """The options of a dataclass, or of the keyword arguments of a function or a class, by name."""
    if not dataclasses.is_dataclass(target):
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
        return {
            name: Option(
                hints.get(name, Any),
                REQUIRED if parameter.default is parameter.empty else parameter.default,
            )
            for name, parameter in inspect.signature(target).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
    hints, fields = typing.get_type_hints(target), dataclasses.fields(target)
    hidden = _FLAX_FIELDS if {field.name for field in fields} >= _FLAX_FIELDS else set()
    return {
        field.name: Option(
            hints.get(field.name, Any),
            field.default if field.default_factory is REQUIRED else field.default_factory(),
            **{name: value for name, value in field.metadata.items() if name in _LIMITS},
        )
        for field in fields
        if field.init and field.name not in hidden
    }


def check_given(options: Mapping[str, Option], given: Config, *, key: str) -> None:
    """Checks the values that a config gives.

    Args:
      options: options by name, as from ``declared``.
      given: values by name.
      key: where the values stand in the config; empty for its top level.

    Raises:
      ConfigError: a name is unknown, or a value is wrong; see ``Option.check``.
    """
    for name, value in given.items():
        where = f"{key}.{name}" if key else name
        if name not in options:
            raise ConfigError(
                f"{where}={shown(value)} is unknown; {allowed(name, sorted(options))}"
            )
        options[name].check(value, where)


def check_options(options: Any) -> None:
    """Checks the values in an instance of a dataclass of options; their types are not checked.

    Raises:
      ConfigError: a value is wrong; see ``Option.check_range``.
    """
    for name, found in declared(type(options)).items():
        found.check_range(getattr(options, name), name)


def allowed(given: Any, choices: Iterable[Any]) -> str:
    """For an error message: the allowed values, and the one nearest to ``given``."""
    choices = [str(choice) for choice in choices]
    nearest = difflib.get_close_matches(str(given), choices, 1)
    meant = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"allowed: {', '.join(choices)}{meant}"


def shortened(parts: Sequence[str], most: int) -> str:
    """For an error message: the first parts, and how many others there are."""
    more = f"; and {len(parts) - most} more" if parts[most:] else ""
    return "; ".join(parts[:most]) + more


def described(target: Any, prefix: str) -> Iterator[str]:
    """Lines of help on the options of ``target`` and of the sections in it.

    Args:
      target: as in ``declared``.
      prefix: what stands before each name, such as ``"--config."``.
    """
    for name, found in declared(target).items():
        if is_section(found.type):
            yield from described(found.type, f"{prefix}{name}.")
            continue
        default = "" if found.default is REQUIRED else f"={found.default!r}"
        choices = "one of " + ", ".join(map(str, found.choices)) if found.choices else ""
        facts = ", ".join(filter(None, (_spelled(found.type), found.limits, choices)))
        yield f"  {prefix}{name}{default}\n      {f'{found.help} ({facts})'.lstrip()}"


def shown(value: Any) -> str:
    """A config value as text."""
    return repr(value.to_dict() if isinstance(value, ml_collections.ConfigDict) else value)


def of_type(value: Any, hint: Any) -> bool:
    """Whether a config value has a type. An int is also a float, a list is also a tuple, but a bool
    is not an int.
    """
    if hint is Any:
        return True
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
    kind = origin or hint
    if kind is Mapping:
        return isinstance(value, Config)
    return not isinstance(kind, type) or isinstance(value, kind)


def is_section(hint: Any) -> bool:
    """Whether a type hint is a section: a dict of keys that a dataclass declares."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _numbers(value: Any, key: str) -> Iterator[tuple[str, Any, int | float]]:
    """The numbers in a value, as (full key, the whole value under that key, number)."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from ((where, value, number) for where, _, number in _numbers(item, key))
    elif isinstance(value, Config):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value, value


def _spelled(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_spelled, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)
