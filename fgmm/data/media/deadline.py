"""A limit to the time that reading takes, kept by whatever is called within it, in any thread.

Threads cannot be interrupted from outside, so what reads in a loop calls ``check`` in every turn.
A single call is not ended: FFmpeg's search for a moment in a file without an index, which reads all
up to there, or a read from a network drive that is gone, which the system itself waits for.
"""

import contextlib
import contextvars
import math
import time
from collections.abc import Iterator
from typing import NamedTuple

from fgmm.data.schema import BadInput


class _Limit(NamedTuple):
    end: float
    seconds: float


_NONE = _Limit(math.inf, math.inf)
_limit = contextvars.ContextVar("limit", default=_NONE)


@contextlib.contextmanager
def within(seconds: int | float) -> Iterator[None]:
    """Gives what is called within it so many seconds, 0 for no limit; an earlier end stays."""
    limit = _Limit(time.monotonic() + (seconds or math.inf), seconds)
    token = _limit.set(min(limit, _limit.get()))
    try:
        yield
    finally:
        _limit.reset(token)


def remaining() -> float | None:
    """Seconds until the end, at least 0; None without a limit."""
    end = _limit.get().end
    return None if end == math.inf else max(0.0, end - time.monotonic())


def check() -> None:
    """Raises ``BadInput("too_slow")`` where the time is over."""
    end, seconds = _limit.get()
    if time.monotonic() > end:
        raise BadInput("too_slow", f"not done in {seconds:g} s")
