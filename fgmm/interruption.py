"""SIGTERM and Ctrl-C ask a program to stop: it saves, and its exit code names the signal."""

import os
import signal

# The signals that stop a program.
NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(RuntimeError):
    """A program stopped early because a signal asked it to; everything is saved.

    Attributes:
      exit_code: 128 plus the number of the signal, as in shells: 143 for SIGTERM, 130 for Ctrl-C.
        So ``train && evaluate`` does not evaluate an unfinished run.
    """

    def __init__(self, number: signal.Signals, message: str):
        self.exit_code = 128 + number
        super().__init__(f"{number.name}: {message}")


class Interruption:
    """A context in which SIGTERM and Ctrl-C are recorded instead of ending the process.

    Args:
      notice: text printed at the first signal; a second signal then ends the process. If it is
        empty, nothing is printed and all signals are recorded.

    Attributes:
      number: the last signal; None before the first.
      count: how many signals came.
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
            # The handler may interrupt a ``print``, which is not reentrant.
            os.write(2, f"\n{self.number.name}: {self._notice}\n".encode())
