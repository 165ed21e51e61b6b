"""An option is declared once: its default, its bounds or choices and its meaning, in one place."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from fgmm.config import ConfigError


def option(
    default: Any = dataclasses.MISSING,
    *,
    low: int | float | None = None,
    high: int | float | None = None,
    above: int | float | None = None,
    choices: Sequence[Any] = (),
    help: str = "",
) -> Any:
    """A field of a dataclass of options. Its type is the field's annotation.

    Args:
      default: its value where a config gives none; without one the option is required.
      low, high: the least and the greatest value allowed; None for no limit.
      above: a value that it must be greater than; None for no limit.
      choices: the values allowed; empty for any.
      help: what it means, in a line.
    """
    metadata = {"low": low, "high": high, "above": above, "choices": tuple(choices), "help": help}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_options(options: Any) -> None:
    """Compares the values of a dataclass with the bounds and choices that its fields declare.

    Raises:
      ConfigError: a value is out of bounds or no choice; the message begins ``name=value``.
    """
    for field in dataclasses.fields(options):
        if field.init:
            check_value(field.name, getattr(options, field.name), field.metadata)


def check_value(key: str, value: Any, declared: Any) -> None:
    """Compares a value with what ``option`` declares.

    Args:
      key: the whole key, for the error.
      value: of the option.
      declared: the field's metadata.

    Raises:
      ConfigError: the value is out of bounds or no choice.
    """
    low, high = declared.get("low"), declared.get("high")
    above, choices = declared.get("above"), declared.get("choices")
    if choices and value not in choices:
        allowed = ", ".join(map(str, choices))
        raise ConfigError(f"{key}={value!r} is unknown; allowed: {allowed}")
    if above is not None and not value > above:
        raise ConfigError(f"{key}={value!r} must be greater than {above}")
    # NaN is within no bounds.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        limits = f"at most {high}" if low is None else f"at least {low}"
        if None not in (low, high):
            limits = f"from {low} to {high}"
        raise ConfigError(f"{key}={value!r} must be {limits}")
