"""An option is declared once: its default, its bounds or choices and its meaning, in one place."""

import dataclasses
from collections.abc import Sequence
from typing import Any


def option(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
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
