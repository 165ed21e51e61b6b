"""Real training processes to which things happen, and what must come out of them all the same."""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from fgmm.train.speed import KEYS
from tests import compilation
from tests.faults.small import STEPS

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CONFIG = "tests/faults/small.py"

# Seconds for anything that is no fault; a start on a busy machine is the longest.
PATIENCE = 300


@dataclasses.dataclass
class Trial:
    """What happened once, and what came of it.

    Attributes:
      fault: its name.
      moment: when it came.
      ended: how the processes ended by it; a negative code is a signal.
      at_step: steps in metrics.jsonl by then.
      continued_from: finished steps of the state that the next start went on from; None if there
        was none.
      equal: whether every metric of every step was that of the uninterrupted run: to the bit, or
        within rounding where ``devices`` changed. None where there is nothing to compare.
      seconds: until the processes had ended, where a limit is stated.
      noted: anything else.
    """

    fault: str
    moment: str
    ended: list[int]
    at_step: int
    continued_from: int | None
    equal: bool | None = None
    seconds: float | None = None
    noted: str = ""


class Missed(AssertionError):
    """The run came to its good end before the moment that was waited for."""


class Running:
    """Processes of one run; whatever is left of them is killed at the end of a ``with``."""

    def __init__(self, processes: list[subprocess.Popen], outputs: list[pathlib.Path]):
        self.processes, self._outputs = processes, outputs

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def output(self, index: int = 0) -> str:
        return self._outputs[index].read_text(errors="replace")

    def ended(self, timeout: float = PATIENCE) -> list[int]:
        """Waits for all of them and returns their exit codes."""
        deadline = time.monotonic() + timeout
        for index, process in enumerate(self.processes):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"process {index} goes on: {self.output(index)}") from None
        return [process.returncode for process in self.processes]

    def finish(self) -> str:
        """The output of process 0, of a run that ended well."""
        codes = self.ended()
        outputs = [self.output(index) for index in range(len(codes))]
        assert codes == [0] * len(codes), outputs
        return outputs[0]

    def signal(self, number: int, index: int = 0) -> None:
        self.processes[index].send_signal(number)

    def kill(self) -> list[int]:
        """SIGKILL to all; returns how they ended."""
        for process in self.processes:
            process.kill()
        return self.ended()


@dataclasses.dataclass
class Job:
    """A command that can be started again and again.

    Attributes:
      workdir: of the run.
      logs: a path, to which the number of a process is added for what it prints.
      flags: of ``fgmm.main``.
      environment: of ``tests/faults/instrumented.py``.
      processes, devices: how many, and how many devices each of them simulates.
      config: and its variant.
      folders: where the code of each process lies, if not all have that of this repository.
    """

    workdir: pathlib.Path
    logs: pathlib.Path
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    processes: int = 1
    devices: int = 1
    config: str = CONFIG
    folders: tuple[pathlib.Path, ...] = ()

    def start(self) -> Running:
        """Starts every process of it."""
        flags = compilation.flags(self.devices)
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        environment |= self.environment
        started, outputs = [], []
        port = _free_port()
        for index in range(self.processes):
            folder = self.folders[index] if self.folders else REPOSITORY
            command = [
                *(sys.executable, "-m", "tests.faults.instrumented", f"--config={self.config}"),
                *(f"--workdir={self.workdir}", *self.flags),
            ]
            if self.processes > 1:
                command += [
                    *(f"--coordinator_address=127.0.0.1:{port}", f"--process_index={index}"),
                    f"--process_count={self.processes}",
                ]
            outputs.append(self.logs.with_suffix(f".{index}.log"))
            with outputs[-1].open("w") as output:
                started.append(
                    subprocess.Popen(
                        command,
                        cwd=folder,
                        env=environment | {"PYTHONPATH": str(folder)},
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        return Running(started, outputs)

    def lines(self) -> list[dict]:
        """The whole lines of metrics.jsonl."""
        path = self.workdir / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def step(self) -> int:
        """Steps whose metrics are written."""
        lines = self.lines()
        return lines[-1]["step"] if lines else 0

    def curve(self) -> list[dict]:
        """Every metric of every step but the speed."""
        return [{k: v for k, v in line.items() if k not in KEYS} for line in self.lines()]

    def saved(self) -> list[int]:
        """Steps of finished checkpoints."""
        names = [path.name for path in (self.workdir / "checkpoints").glob("*")]
        return sorted(int(name) for name in names if name.isdigit())

    def unfinished(self) -> list[str]:
        """Checkpoints that are being written, or whose writing was interrupted."""
        names = [path.name for path in (self.workdir / "checkpoints").glob("*")]
        return [name for name in names if "tmp" in name]


class Bench:
    """Where faults are tried.

    Args:
      folder: for the workdirs.
      seed: of all that is drawn.
    """

    def __init__(self, folder: pathlib.Path, seed: int = 0):
        self.folder, self.chance = folder, random.Random(seed)
        self._count, self._finished = 0, {}

    def job(self, *flags: str, folder: pathlib.Path | None = None, **options) -> Job:
        """A run that is not started yet."""
        self._count += 1
        name = f"run{self._count}"
        return Job((folder or self.folder) / name, self.folder / name, flags, **options)

    def finished(self, *flags: str, **options) -> Job:
        """Such a run to which nothing happened."""
        key = json.dumps([flags, options], sort_keys=True)
        if key not in self._finished:
            job = self.job(*flags, **options)
            with job.start() as running:
                running.finish()
            assert [line["step"] for line in job.lines()] == list(range(1, STEPS + 1))
            self._finished[key] = job
        return self._finished[key]

    def expected(self, *flags: str, **options) -> list[dict]:
        """The curve of such a run."""
        return self.finished(*flags, **options).curve()


def wait_until(happened: Callable[[], bool], running: Running, timeout: float = PATIENCE) -> None:
    """Returns once it happened; no process may end before."""
    deadline = time.monotonic() + timeout
    while not happened():
        codes = [process.poll() for process in running.processes]
        gone = any(code is not None for code in codes)
        if (gone and not happened()) or time.monotonic() > deadline:
            outputs = [running.output(index) for index in range(len(codes))]
            kind = Missed if set(codes) == {0} else AssertionError
            raise kind(f"it did not happen; {outputs}; exit codes {codes}")
        time.sleep(0.002)


@contextlib.contextmanager
def held(running: Running) -> Iterator[None]:
    """Stops a single process meanwhile, for a look at what it was about."""
    running.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, running.processes[0].pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        running.signal(signal.SIGCONT)


def hit(running: Running, target: Callable[[], bool], blow: Callable[[], None]) -> None:
    """Strikes a single process while ``target`` holds, to be sure of the moment."""
    struck = False
    while not struck:
        wait_until(target, running)
        with held(running):
            if target():
                blow()
                struck = True


def continued_from(output: str) -> int:
    """The step that a start says it goes on from; 0 if it began anew."""
    found = re.search(r"continuing from step (\d+)", output)
    return int(found.group(1)) if found else 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
