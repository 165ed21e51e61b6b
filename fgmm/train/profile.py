"""Traces of chosen steps: what the devices and the host did, and when."""

import pathlib
import re
from typing import Any

import jax

from fgmm.config import ConfigError
from fgmm.train import distributed


class Profile:
    """Traces some steps for TensorBoard (XProf) or Perfetto, on process 0.

    Args:
      steps: ``START:STOP`` for the steps that ``metrics.jsonl`` numbers START + 1 to STOP; empty
        for no trace.
      total: steps of the whole run.
      folder: where the trace is written.

    Raises:
      ConfigError: ``steps`` has another form, or the run has no such steps.
    """

    def __init__(self, steps: str, total: int, folder: pathlib.Path):
        found = re.fullmatch(r"(\d+):(\d+)", steps or "0:0")
        if not found:
            raise ConfigError(f"--profile={steps} must be START:STOP, two numbers of steps")
        self._start, self._stop = map(int, found.groups())
        if steps and not self._start < self._stop <= total:
            raise ConfigError(
                f"--profile={steps}: START must be less than STOP and STOP at most steps={total}"
            )
        self._folder, self._running = folder, False

    def follow(self, step: int, last: Any) -> None:
        """Begins or ends the trace if that is due after ``step`` steps.

        Args:
          step: how many steps have been started.
          last: outputs of the last of them. The trace begins or ends when they are ready.
        """
        due = self._start <= step < self._stop and distributed.primary()
        if due == self._running:
            return
        jax.block_until_ready(last)
        if due:
            jax.profiler.start_trace(self._folder)
            self._running = True
        else:
            self.close()

    def close(self) -> None:
        """Ends the trace if there is one."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            print(f"trace written to {self._folder}", flush=True)
