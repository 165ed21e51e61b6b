"""Rules of a config: pairs (regex, value). The first whose regex matches a whole name applies."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from fgmm.config.option import ConfigError

Value = TypeVar("Value")


def checked_rules(
    rules: Any, key: str, value: Callable[[Any], Value], kind: str
) -> tuple[tuple[str, Value], ...]:
    """Checks the rules of a config and converts their values.

    Args:
      rules: pairs (regex, value) of the config.
      key: where the rules stand in the config, for errors.
      value: converts a value; raises ValueError or TypeError if the value is wrong.
      kind: a word for the value, for errors.

    Raises:
      ConfigError: the rules are not a list, or an entry is not a pair, or its regex or its value is
        wrong.
    """
    if not isinstance(rules, list | tuple):
        raise ConfigError(f"{key}={rules!r} must be a list of (regex, {kind})")
    checked = []
    for rule in rules:
        pair = isinstance(rule, list | tuple) and len(rule) == 2 and isinstance(rule[0], str)
        if not pair:
            raise ConfigError(f"{key} holds {rule!r}; each entry must be (regex, {kind})")
        try:
            re.compile(rule[0])
            checked.append((rule[0], value(rule[1])))
        except (re.error, TypeError, ValueError) as error:
            raise ConfigError(f"{key} holds {rule!r}: {error}") from error
    return tuple(checked)


def number(value: Any) -> float:
    """The value of a rule as a float.

    Raises:
      ValueError: it is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
