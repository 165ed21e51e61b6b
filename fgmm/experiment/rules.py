"""Rules on arrays of a tree by their paths; ``fgmm.config.regex_rules`` checks them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from fgmm.config import ConfigError


def path_of(at: Any) -> str:
    """The path of a leaf in a tree of dicts, from JAX's key path, in the form that rules match."""
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
    """Checks that every rule matches some array.

    Raises:
      ConfigError: the regex of a rule matches none of ``paths``.
    """
    for regex, value in rules:
        if not any(re.fullmatch(regex, path) for path in paths):
            shown = ", ".join(paths[:: max(1, len(paths) // 4)][:4])
            raise ConfigError(
                f"{key}: ({regex!r}, {value!r}) matches no whole path; paths are such as {shown}"
            )
