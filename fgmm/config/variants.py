"""Variants of a config file: ``--config=configs/X.py:key=value,key=value``."""

from collections.abc import Collection
from typing import Any

import ml_collections

from fgmm.config.option import ConfigError
from fgmm.config.option import allowed as in_words


def variant(argument: str | None, **allowed: Any) -> ml_collections.ConfigDict:
    """Parses the text after the colon of ``--config=configs/X.py:key=value,key=value``.

    Args:
      argument: the text after the colon, or None.
      allowed: the keys with their defaults; a value takes its default's type.

    Raises:
      ConfigError: a key is unknown or a value is of another type.
    """
    result = dict(allowed)
    for part in filter(None, (argument or "").split(",")):
        key, equals, text = part.partition("=")
        if not equals or key not in allowed:
            raise ConfigError(
                f"variant {part!r} is unknown; allowed: "
                + ", ".join(f"{name}={value}" for name, value in sorted(allowed.items()))
            )
        result[key] = _parsed(key, text, allowed[key])
    return ml_collections.ConfigDict(result)


def check_choices(variant: ml_collections.ConfigDict, **choices: Collection[str]) -> None:
    """Checks variants that have one of a few values.

    Args:
      variant: as from ``variant``.
      choices: the values that are allowed, by key.

    Raises:
      ConfigError: a value is not allowed.
    """
    for key, values in choices.items():
        if variant[key] not in values:
            raise ConfigError(
                f"variant {key}={variant[key]!r} is unknown; {in_words(variant[key], values)}"
            )


def given(argument: str | None, key: str) -> str:
    """The value of a variant in the text after the colon, as text; empty if it is absent."""
    parts = (part.partition("=") for part in (argument or "").split(","))
    return {name: text for name, _, text in parts}.get(key, "")


def without(argument: str | None, *keys: str) -> str:
    """The text after the colon, without the variants ``keys``."""
    parts = filter(None, (argument or "").split(","))
    return ",".join(part for part in parts if part.partition("=")[0] not in keys)


def _parsed(key: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ConfigError(f"variant {key}={text!r} must be true or false")
    try:
        return type(default)(text)
    except ValueError as error:
        raise ConfigError(
            f"variant {key}={text!r} is not of type {type(default).__name__}"
        ) from error
