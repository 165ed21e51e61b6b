"""Configs of earlier runs, brought over to the keys of today."""

from typing import Any


def brought_over(saved: dict[str, Any]) -> dict[str, Any]:
    """A config as an earlier version saved it, with the keys that have moved since in their places
    of today and without those that are gone. New keys are added later, by ``with_new_keys``.
    """
    return saved
