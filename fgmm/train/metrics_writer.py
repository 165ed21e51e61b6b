"""Writers of a run's metrics: metrics.jsonl, TensorBoard, a progress bar."""

import json
import math
import os
import pathlib
import sys
from collections.abc import Mapping

import tqdm

from fgmm.train.events import EventFile
from fgmm.train.speed import Speed


class MetricsWriter:
    """Writes a line of ``metrics.jsonl`` for each step, and the same to TensorBoard.

    Lines after ``restored_step`` are cut: they belong to steps that are about to be repeated.

    Args:
      workdir: of the run.
      restored_step: finished steps of the state that the run starts from.
      total: steps of the whole run.
      speed: of the steps, written with their metrics.
      progress: whether to show a progress bar on standard error.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        restored_step: int,
        total: int,
        speed: Speed,
        progress: bool,
    ):
        path = workdir / "metrics.jsonl"
        cut_back(path, restored_step)
        # Line-buffered, so that programs that follow the file see every step.
        self._file = path.open("a", buffering=1)
        self._events = EventFile(workdir / "events", restored_step)
        self._bar = tqdm.tqdm(
            total=total,
            initial=restored_step,
            unit="step",
            disable=not progress,
            smoothing=0.05,
            # In a log file every update is another line.
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
        )
        self._speed = speed

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the line of a finished step and moves the progress bar."""
        metrics = {**metrics, **self._speed.finished(step)}
        line = {"step": step, **metrics}
        finite = {k: v if math.isfinite(v) else None for k, v in line.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._events.write(step, metrics)
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {self._speed}", refresh=False)

    def message(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.write(text)

    def flush(self) -> None:
        """Writes every line to disk, so that none is missing when the next checkpoint is there."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._events.flush()

    def close(self) -> None:
        self.flush()
        self._file.close()
        self._events.close()
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
    partial = path.with_suffix(".partial")
    partial.write_text("".join(kept))
    os.replace(partial, path)
