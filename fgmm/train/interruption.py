"""SIGTERM and Ctrl-C: a run is asked to stop, saves and says so by its exit code."""

import os
import signal

# What asks a run to stop.
NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(RuntimeError):
    """A run stopped before its end because it was asked to; everything is saved.

    Attributes:
      exit_code: 128 and the number of the signal, as shells have it: 143 for SIGTERM, 130 for
        Ctrl-C. With it ``train && evaluate`` does not go on to evaluate half a run.
    """

    def __init__(self, number: signal.Signals, step: int, steps: int):
        self.exit_code = 128 + number
        super().__init__(
            f"{number.name}: stopped at step {step} of {steps}, saved. To continue, start the same "
            "command again."
        )


class Interruption:
    """Turns SIGTERM and Ctrl-C into a wish to stop; a second one stops at once.

    Attributes:
      number: of the signal; None until there is one.
    """

    def __init__(self):
        self.number: signal.Signals | None = None
        self._before = {}

    def __enter__(self):
        for number in NUMBERS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        del frame
        self.number = signal.Signals(number)
        self.__exit__()
        # A handler may interrupt a print, and prints do not nest.
        os.write(2, f"\n{self.number.name}: saving; once more to stop at once\n".encode())
