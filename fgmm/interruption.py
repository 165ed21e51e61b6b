"""SIGTERM and Ctrl-C: a program is asked to stop, saves, and says so by its exit code."""

import os
import signal

# What asks a program to stop.
NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(RuntimeError):
    """A program stopped before its end because it was asked to; everything is saved.

    Attributes:
      exit_code: 128 and the number of the signal, as shells have it: 143 for SIGTERM, 130 for
        Ctrl-C. With it ``train && evaluate`` does not go on to evaluate half a run.
    """

    def __init__(self, number: signal.Signals, message: str):
        self.exit_code = 128 + number
        super().__init__(f"{number.name}: {message}")


class Interruption:
    """A context in which SIGTERM and Ctrl-C are noted and do not end the process.

    Args:
      notice: printed at the first signal. With one, a second signal ends the process.

    Attributes:
      number: of the last signal; None until there is one.
      count: of the signals.
    """

    def __init__(self, notice: str = ""):
        self.number: signal.Signals | None = None
        self.count = 0
        self._notice, self._before = notice, {}

    def __enter__(self):
        for number in NUMBERS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        del frame
        self.number, self.count = signal.Signals(number), self.count + 1
        if self._notice:
            self.__exit__()
            # A handler may interrupt a print, and prints do not nest.
            os.write(2, f"\n{self.number.name}: {self._notice}\n".encode())
