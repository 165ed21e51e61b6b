"""A time limit for reading, which the functions that read check. Each thread has its own.

Threads cannot be interrupted from outside, so every loop that reads calls ``check``. A single call
is not interrupted: FFmpeg's seek in a file without an index, which reads everything before the
moment, or a read from a network drive that has gone.
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
    """Limits the time of the body of a ``with``, 0 for no limit. An outer limit that ends earlier
    stays in force.
    """
    limit = _Limit(time.monotonic() + (seconds or math.inf), seconds)
    token = _limit.set(min(limit, _limit.get()))
    try:
        yield
    finally:
        _limit.reset(token)


def remaining() -> float | None:
    """Seconds until the limit, at least 0; None without a limit."""
    end = _limit.get().end
    return None if end == math.inf else max(0.0, end - time.monotonic())


def check() -> None:
    """Raises ``BadInput("too_slow")`` if the time is over."""
    end, seconds = _limit.get()
    if time.monotonic() > end:
        raise BadInput("too_slow", f"not done in {seconds:g} s")
