"""Ends a run that hangs, and prints the stack of every thread."""

import faulthandler


class Watchdog:
    """Ends the process if there is no sign of life for some time.

    Stacks go to stderr and the exit code is 1. The clock runs in a C thread, so neither a hanging
    collective nor a looping decoder can block it.

    Args:
      seconds: the time; 0 for no limit.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds

    def alive(self) -> None:
        """Gives a sign of life: the time starts again."""
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def __enter__(self) -> "Watchdog":
        self.alive()
        return self

    def __exit__(self, *_) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
