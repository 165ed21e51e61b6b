"""Rules of a config: pairs (regex, value), of which the first that matches a whole name holds."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from fgmm.config.option import ConfigError

Value = TypeVar("Value")


def checked_rules(
    rules: Any, key: str, value: Callable[[Any], Value], kind: str
) -> tuple[tuple[str, Value], ...]:
    """Rules of a config as pairs, with their values in the form in which they are used.

    Args:
      rules: what the config gives, pairs (regex, value).
      key: where they stand in the config, for errors.
      value: what a given value means; raises ValueError or TypeError where it means nothing.
      kind: a word for the value, for errors.

    Raises:
      ConfigError: the rules are no list, or an entry is no pair, its regex no regular expression or
        its value wrong.
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
    """The value of a rule that is a finite number.

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
