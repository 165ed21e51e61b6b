"""Writers of a run's metrics: metrics.jsonl, TensorBoard, a progress bar, and loggers."""

import datetime
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping

import tqdm

from fgmm import atomic
from fgmm.train.events import EventFile
from fgmm.train.log_sinks import LogSinks
from fgmm.train.speed import Speed

# Seconds between lines on the progress of a run whose standard error is no terminal.
LINE_SECONDS = 30.0


class MetricsWriter:
    """Writes a line of ``metrics.jsonl`` for each step, and the same to TensorBoard.

    Lines after ``restored_step`` are cut: they belong to steps that are about to be repeated.

    Args:
      workdir: of the run.
      restored_step: finished steps of the state that the run starts from.
      total: steps of the whole run.
      speed: of the steps, for what is shown.
      progress: whether to show on standard error how far the run is: in a terminal as a bar, in a
        file as a line for the first step, the last, and one every ``LINE_SECONDS``.
      sinks: further places for the same metrics.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        restored_step: int,
        total: int,
        speed: Speed,
        progress: bool,
        sinks: LogSinks | None = None,
    ):
        path = workdir / "metrics.jsonl"
        cut_back(path, restored_step)
        # Line-buffered, so that programs that follow the file see every step.
        self._file = path.open("a", buffering=1)
        self._events = EventFile(workdir / "events", restored_step)
        terminal = sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            total=total,
            initial=restored_step,
            unit="step",
            disable=not (progress and terminal),
            smoothing=0.05,
            mininterval=0.2,
        )
        self._lines, self._total = progress and not terminal, total
        self._next_line = -math.inf
        self._speed, self._sinks = speed, sinks

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the line of a finished step, its speed included, and moves the progress bar."""
        line = {"step": step, **metrics}
        finite = {k: v if math.isfinite(v) else None for k, v in line.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._events.write(step, metrics)
        if self._sinks is not None:
            self._sinks.write(step, metrics)
        state = f"loss {metrics['loss']:.3f}, {self._speed}"
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(state, refresh=False)
        if self._lines and (time.monotonic() >= self._next_line or step == self._total):
            self._next_line = time.monotonic() + LINE_SECONDS
            line = f"step {step} of {self._total}, {state}"
            if "seconds_left" in metrics:
                line += f", {datetime.timedelta(seconds=round(metrics['seconds_left']))} left"
            print(line, file=sys.stderr, flush=True)

    def message(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.write(text)

    def flush(self) -> None:
        """Writes every line to disk, so that none is missing when the next checkpoint is there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._events.flush()

    def close(self) -> None:
        """Writes everything to disk and closes files, sinks and the bar."""
        self.flush()
        self._file.close()
        self._events.close()
        if self._sinks is not None:
            self._sinks.close()
        self._bar.close()


class NoWriter:
    """Has the methods of ``MetricsWriter`` and writes nothing; for all processes but the first."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """As ``MetricsWriter``."""

    def message(self, text: str) -> None:
        """As ``MetricsWriter``."""

    def flush(self) -> None:
        """As ``MetricsWriter``."""

    def close(self) -> None:
        """As ``MetricsWriter``."""


def cut_back(path: pathlib.Path, step: int) -> None:
    """Removes the lines after ``step``, and a last line that a kill left unfinished."""
    if not path.exists():
        return
    kept = []
    with open(path) as file:
        for line in file:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["step"] <= step and line.endswith("\n"):
                kept.append(line)
    atomic.write_text(path, "".join(kept))
