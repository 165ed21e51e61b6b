"""Logs bad files by name, the first ones of each reason. Further ones are only counted."""

import collections

from absl import logging

# Files of each reason that a process logs.
NAMED = 10
# Reasons for what a clip never had. They are no damage and are not logged.
_LACKING = frozenset(
    {
        *("no_video", "no_audio", "silent_audio"),
        *("no_captions", "missing_captions", "empty_caption", "no_label"),
    }
)

_named: collections.Counter[str] = collections.Counter()


def tell(reason: str, name: str, detail: str = "") -> None:
    """Logs that a file is bad, unless ``NAMED`` files with the same reason were logged before.

    Args:
      reason: one of ``schema.REASONS``; those that are no damage are not logged.
      name: of the clip or the file.
      detail: what went wrong, if more is known.
    """
    if reason in _LACKING or _named[reason] >= NAMED:
        return
    _named[reason] += 1
    last = "; further ones are only counted" if _named[reason] == NAMED else ""
    said = " ".join(detail.removeprefix(f"{reason}: ").split())
    logging.error("bad input, %s: %s%s%s", reason, name, f" ({said})" if said else "", last)
