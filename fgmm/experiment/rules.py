"""Rules on arrays of a tree by their paths: pairs (regex, value), of which the first holds."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax

from fgmm.config import ConfigError

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


def path_of(at: Any) -> str:
    """Where a leaf stands in a tree of dicts, as JAX tells it, in the form that rules match."""
    return jax.tree_util.keystr(at, simple=True, separator="/")


def paths_of(tree: Any) -> list[str]:
    """The paths of all leaves of a tree."""
    return [path_of(at) for at, _ in jax.tree_util.tree_leaves_with_path(tree)]


def value_for(path: str, rules: Sequence[tuple[str, Any]], default: Any) -> Any:
    """The value of the first rule whose regex matches the whole of ``path``, such as
    ``model/encoders_text/Embed_0/embedding``.
    """
    return next((value for regex, value in rules if re.fullmatch(regex, path)), default)


def by_rule(tree: Any, rules: Sequence[tuple[str, Any]], default: Any) -> Any:
    """A tree like ``tree`` with ``value_for`` the path of each leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda at, _: value_for(path_of(at), rules, default), tree
    )


def check_matches(rules: Iterable[tuple[str, Any]], paths: Sequence[str], key: str) -> None:
    """Checks that every rule speaks of some array.

    Raises:
      ConfigError: the regex of a rule matches none of ``paths``.
    """
    for regex, value in rules:
        if not any(re.fullmatch(regex, path) for path in paths):
            shown = ", ".join(paths[:: max(1, len(paths) // 4)][:4])
            raise ConfigError(
                f"{key}: ({regex!r}, {value!r}) matches no whole path; paths are such as {shown}"
            )
