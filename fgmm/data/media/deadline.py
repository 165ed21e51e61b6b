"""A time limit for reading, which called functions check, in any thread.

Threads cannot be interrupted from outside, so loops that read call ``check`` in every turn. A
single call is not interrupted, such as FFmpeg's seek in a file without an index, which reads all up
to the moment, or a read from a network drive that is gone.
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
    """Limits the time of its body; 0 for no limit. An earlier end stays."""
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
    """Raises ``BadInput("too_slow")`` if the time is over."""
    end, seconds = _limit.get()
    if time.monotonic() > end:
        raise BadInput("too_slow", f"not done in {seconds:g} s")
