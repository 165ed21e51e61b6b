"""Rules on arrays of a tree by their paths; ``fgmm.config.regex_rules`` checks them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from fgmm.config import ConfigError


def path_of(at: Any) -> str:
    """The path that rules match, such as ``model/encoders_text/Embed_0/embedding``, from a key path
    of JAX.
    """
    return jax.tree_util.keystr(at, simple=True, separator="/")


def paths_of(tree: Any) -> list[str]:
    """The paths of all leaves of a tree."""
    return [path_of(at) for at, _ in jax.tree_util.tree_leaves_with_path(tree)]


def value_for(path: str, rules: Sequence[tuple[str, Any]], default: Any) -> Any:
    """The value of the first rule whose regex matches the whole ``path``; otherwise ``default``."""
    return next((value for regex, value in rules if re.fullmatch(regex, path)), default)


def by_rule(tree: Any, rules: Sequence[tuple[str, Any]], default: Any) -> Any:
    """A tree like ``tree`` whose leaves are ``value_for`` their paths."""
    return jax.tree_util.tree_map_with_path(
        lambda at, _: value_for(path_of(at), rules, default), tree
    )


def check_matches(rules: Iterable[tuple[str, Any]], paths: Sequence[str], key: str) -> None:
    """Checks that every rule matches an array.

    Args:
      rules: pairs (regex, value).
      paths: paths of the arrays.
      key: where the rules stand in the config, for errors.

    Raises:
      ConfigError: the regex of a rule matches none of ``paths``.
    """
    for regex, value in rules:
        if not any(re.fullmatch(regex, path) for path in paths):
            shown = ", ".join(paths[:: max(1, len(paths) // 4)][:4])
            raise ConfigError(
                f"{key}: ({regex!r}, {value!r}) matches no path; the regex must match the whole "
                f"path, such as {shown}"
            )
