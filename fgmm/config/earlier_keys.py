"""Configs of earlier runs, brought over to the keys of today."""

from typing import Any


def brought_over(saved: dict[str, Any]) -> dict[str, Any]:
    """A config as an earlier version saved it, with the keys that have moved since in their places
    of today and without those that are gone. New keys are added later, by ``with_new_keys``.

    Args:
      saved: it is changed in place.
    """
    _name_weighting(saved)
    return saved


def _name_weighting(saved: dict[str, Any]) -> None:
    """``phrase_weights`` of terms on one score for each clip and caption is ``weighting``."""
    for entry in saved.get("objective", {}).get("terms", {}).values():
        if entry.get("name") in ("info_nce", "sigmoid") and "phrase_weights" in entry:
            entry["weighting"] = entry.pop("phrase_weights")
