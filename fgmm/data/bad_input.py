"""Names bad files in the program's log: the first of each reason. The others are only counted."""

import collections

from absl import logging

# Files of each reason that a process names.
NAMED = 10
# Reasons for what was never there, which is no damage.
_LACKING = frozenset(
    {
        *("no_video", "no_audio", "silent_audio"),
        *("no_captions", "missing_captions", "empty_caption", "no_label"),
    }
)

_named: collections.Counter[str] = collections.Counter()


def tell(reason: str, name: str, detail: str = "") -> None:
    """Logs that a file is bad, unless many with its reason were named before.

    Args:
      reason: one of ``schema.REASONS``; those that are no damage are passed over.
      name: of the clip or the file.
      detail: what went wrong, if more is known.
    """
    if reason in _LACKING or _named[reason] >= NAMED:
        return
    _named[reason] += 1
    last = "; further ones are only counted" if _named[reason] == NAMED else ""
    said = " ".join(detail.removeprefix(f"{reason}: ").split())
    logging.error("bad input, %s: %s%s%s", reason, name, f" ({said})" if said else "", last)
