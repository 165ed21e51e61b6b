"""Rules on arrays of a tree by their paths: pairs (regex, value), of which the first holds."""

import re
from collections.abc import Sequence
from typing import Any

import jax


def path_of(at: Any) -> str:
    """Where a leaf stands in a tree of dicts, as JAX tells it, in the form that rules match."""
    return jax.tree_util.keystr(at, simple=True, separator="/")


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
