"""SIGTERM and Ctrl-C as a wish to stop."""

import os
import signal


class Interruption:
    """Within it, SIGTERM and Ctrl-C are noted and do not end the process.

    Args:
      notice: printed at the first signal. With one, a second signal ends the process.

    Attributes:
      number: of the last signal; 0 before any.
      count: of the signals.
    """

    def __init__(self, notice: str = ""):
        self.number = self.count = 0
        self._notice, self._before = notice, {}

    @property
    def name(self) -> str:
        """The name of the last signal; empty before any."""
        return signal.Signals(self.number).name if self.number else ""

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        del frame
        self.number, self.count = number, self.count + 1
        if self._notice:
            self.__exit__()
            # A handler may interrupt a print, and prints do not nest.
            os.write(2, f"\n{self.name}: {self._notice}\n".encode())
