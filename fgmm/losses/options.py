"""Checks of options, with errors that name the option, its value and what is allowed."""

from collections.abc import Sequence


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {value!r}")


def check_share(**options: float) -> None:
    """Raises ValueError unless every option is above 0 and below 1."""
    for option, value in options.items():
        if not 0 < value < 1:
            raise ValueError(f"{option} must be above 0 and below 1; got {value!r}")


def check_positive(**options: float) -> None:
    """Raises ValueError unless every option is a finite number above 0."""
    for option, value in options.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{option} must be a finite number above 0; got {value!r}")
