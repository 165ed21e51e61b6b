"""Runs cells, several at a time, so that a kill at any moment costs little.

A cell is done when its result file exists. In its workdir, ``cell.json`` says which of its programs
have ended. The trainer resumes from its last checkpoint. The workdir is removed if it has other
values on any axis.
"""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fgmm.config import ConfigError
from fgmm.interruption import Interrupted, Interruption
from fgmm.study import outcome, programs
from fgmm.study.estimate import Estimate
from fgmm.study.grid import Cell, Stage, Study

_POLL_SECONDS = 0.1
# Seconds for a trainer to save after SIGTERM.
_GRACE_SECONDS = 30.0


class Places(NamedTuple):
    """Where the files of a stage are.

    Attributes:
      results: folder of the result files.
      work: folder of the workdirs of cells in progress, and of logs.
    """

    results: pathlib.Path
    work: pathlib.Path

    @classmethod
    def of(cls, output: pathlib.Path, stage: str) -> "Places":
        """The places of a stage in the folder of a study."""
        return cls(output / "results" / stage, output / "work" / stage)

    def result(self, cell: Cell) -> pathlib.Path:
        """The result file of a cell."""
        return self.results / f"{cell.name}.json"

    def is_done(self, cell: Cell) -> bool:
        """Whether the result file holds the result of this cell."""
        return outcome.is_done(cell, self.result(cell))


class _RunningCell:
    """A cell in progress. It runs its programs one after the other, on one core."""

    def __init__(self, study: Study, stage: Stage, cell: Cell, places: Places, core: int):
        self.study, self.cell, self.core = study, cell, core
        self.workdir = places.work / cell.name
        self.log = places.work / f"{cell.name}.log"
        self._note = self.workdir / "cell.json"
        self.seconds = self._begun_before()
        commands = programs.of_cell(study, stage, cell, self.workdir)
        self._left = deque(
            command for command in commands if self._key(command) not in self.seconds
        )
        self.process: subprocess.Popen | None = None
        self._next()

    @staticmethod
    def _key(command: list[str]) -> str:
        return " ".join(word for word in command if not word.startswith("--workdir="))

    def _begun_before(self) -> dict[str, float]:
        """The seconds of the programs that ended in an earlier start, by command.

        Removes the workdir if it is of a cell with other coordinates.
        """
        try:
            note = json.loads(self._note.read_text())
        except (OSError, json.JSONDecodeError):
            note = {}
        if note.get("coordinates") != self.cell.coordinates:
            shutil.rmtree(self.workdir, ignore_errors=True)
            note = {"coordinates": self.cell.coordinates, "ended": {}}
            outcome.write(self._note, note)
        return note["ended"]

    def _next(self) -> None:
        self._start = time.monotonic()
        if not self._left:
            return
        with open(self.log, "a") as log:
            print(f"$ python -m {' '.join(self._left[0])}", file=log, flush=True)
            self.process = subprocess.Popen(
                programs.pinned(self._left[0], self.core),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=programs.environment(),
                # Ctrl-C in a terminal then reaches the study alone, which stops its programs.
                start_new_session=True,
            )

    def poll(self) -> bool | None:
        """True if all programs have succeeded, False if one has failed, None while one runs.

        Starts the next program when one has succeeded.
        """
        if self._left:
            code = self.process.poll()
            if code is None:
                return None
            if code:
                return False
            self.seconds[self._key(self._left.popleft())] = round(time.monotonic() - self._start, 1)
            note = {"coordinates": self.cell.coordinates, "ended": self.seconds}
            outcome.write(self._note, note)
            self._next()
        return None if self._left else True

    def stop(self, number: int) -> None:
        """Sends a signal to the program that runs, if any."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


class Schedule:
    """Runs the cells of the stages of a study.

    Args:
      study: of the cells.
      output: folder of the study.
      jobs: how many cells run at a time.
      estimate: gives the time that is left; new results are added to it.
      keep: whether to keep the workdir of a cell, with its checkpoints, when the cell is done.
      say: called with the progress line. A text that ends in a line break is to stay visible.
    """

    def __init__(
        self,
        study: Study,
        output: pathlib.Path,
        *,
        jobs: int,
        estimate: Estimate,
        keep: bool = False,
        say: Callable[[str], None] = print,
    ):
        self._study, self._output, self._jobs = study, output, jobs
        self._estimate, self._keep, self._say = estimate, keep, say
        self._base = outcome.base_config(study.experiment)

    def run(self, name: str, cells: Sequence[Cell]) -> list[str]:
        """Runs the cells that are not done.

        Args:
          name: of the stage, "tune" or "run".
          cells: of that stage, with values on all axes.

        Returns:
          Names of the cells that failed; their logs are kept.

        Raises:
          Interrupted: by Ctrl-C or SIGTERM, after all programs have ended.
        """
        places = Places.of(self._output, name)
        places.work.mkdir(parents=True, exist_ok=True)
        waiting = deque(cell for cell in cells if not places.is_done(cell))
        running: dict[int, _RunningCell] = {}
        failed: list[str] = []
        with Interruption() as interruption:
            try:
                while waiting or running:
                    if interruption.number:
                        raise Interrupted(
                            interruption.number, "stopped; the same command goes on from here"
                        )
                    self._fill(running, waiting, places, getattr(self._study, name))
                    failed += self._ended(running, places)
                    left = [*waiting, *(cell_run.cell for cell_run in running.values())]
                    self._say(
                        f"{name}: {len(cells) - len(left) - len(failed)} of {len(cells)} cells "
                        f"done, {len(running)} running, {len(failed)} failed{self._time(left)}"
                    )
                    time.sleep(_POLL_SECONDS)
            finally:
                _stop(list(running.values()), interruption)
        return failed

    def _fill(
        self, running: dict[int, _RunningCell], waiting: deque[Cell], places: Places, stage: Stage
    ) -> None:
        """Starts a cell in each free slot. Slots have a core each, as far as there are cores."""
        cores = programs.cores()
        for slot in range(self._jobs):
            if waiting and slot not in running:
                core = cores[slot % len(cores)]
                running[slot] = _RunningCell(self._study, stage, waiting.popleft(), places, core)

    def _ended(self, running: dict[int, _RunningCell], places: Places) -> list[str]:
        """Removes the cells that have ended from ``running``; returns the names of failed ones."""
        failed = []
        for slot, cell_run in list(running.items()):
            well = cell_run.poll()
            if well is None:
                continue
            del running[slot]
            if not (well and self._finished(cell_run, places)):
                failed.append(cell_run.cell.name)
                self._say(f"failed: {cell_run.cell.name}, see {cell_run.log}\n")
        return failed

    def _time(self, left: Sequence[Cell]) -> str:
        seconds = self._estimate.seconds(left, self._jobs)
        return "" if seconds is None else f", about {duration(seconds)} left"

    def _finished(self, cell_run: _RunningCell, places: Places) -> bool:
        """Writes the result file and, unless ``keep``, removes the workdir and the log.

        Returns:
          Whether the result could be gathered.
        """
        cell, seconds = cell_run.cell, sum(cell_run.seconds.values())
        try:
            result = outcome.gathered(self._study, cell, cell_run.workdir, self._base, seconds)
        except (ConfigError, OSError, KeyError, IndexError) as error:
            with open(cell_run.log, "a") as log:
                print(f"its result cannot be gathered: {error!r}", file=log)
            return False
        outcome.write(places.result(cell), result)
        self._estimate.add(result)
        if not self._keep:
            shutil.rmtree(cell_run.workdir)
            cell_run.log.unlink()
        return True


def _stop(running: Sequence[_RunningCell], interruption: Interruption) -> None:
    """Sends SIGTERM to the programs, and SIGKILL after ``_GRACE_SECONDS`` or a second signal."""
    for cell_run in running:
        cell_run.stop(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for cell_run in running:
        process = cell_run.process
        while process is not None and process.poll() is None:
            if time.monotonic() > deadline or interruption.count > 1:
                cell_run.stop(signal.SIGKILL)
                process.wait()
            time.sleep(_POLL_SECONDS)


def duration(seconds: float) -> str:
    """A time in hours and minutes, as text."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


class ProgressLine:
    """Shows progress on standard error, in one line that is overwritten in a terminal.

    A text that ends in a line break stays. Without a terminal, a new line is written only when the
    text before the time that is left has changed.
    """

    def __init__(self):
        self._shown = ""
        self._terminal = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        if text.endswith("\n"):
            print(f"{self._clear()}{text}", end="", file=sys.stderr, flush=True)
            self._shown = ""
        elif self._terminal and text != self._shown:
            print(f"{self._clear()}{text}", end="", file=sys.stderr, flush=True)
            self._shown = text
        elif not self._terminal and (key := text.partition(", about")[0]) != self._shown:
            print(text, file=sys.stderr, flush=True)
            self._shown = key

    def _clear(self) -> str:
        return f"\r{' ' * len(self._shown)}\r" if self._terminal else ""
