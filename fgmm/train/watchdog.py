"""Ends a run in which nothing happens any more, with the stack of every thread."""

import faulthandler


class Watchdog:
    """Counts from its start and from every sign of life; at the limit the process ends.

    Stacks go to stderr and the exit code is 1. It counts in a thread of C, so that neither a
    collective that waits for ever nor a decoder that loops can keep it from ending the process.

    Args:
      seconds: the limit; 0 for none.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds

    def alive(self) -> None:
        """A sign of life: the count starts anew."""
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def __enter__(self) -> "Watchdog":
        self.alive()
        return self

    def __exit__(self, *_) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
