"""Measures what has to be known about one accelerator, in one short session on it.

    python benchmarks/device.py --minutes=8 [--output=device.jsonl] [--rows=loss_kernel,resume]
    python benchmarks/device.py --dry_run            every row at small sizes, on the CPU

The rows of ``device_rows.py`` run one after the other in a process of their own, which reports each
result as it finds it. A row that takes longer than its limit is cut off: the process is killed, and
a new one goes on with the next row. The same happens if a row ends the process. Each row is a line
of JSON in ``--output``, written when the row ends:

    {"row": "loss_kernel", "seconds": 21.4, ...}         what was found
    {"row": "loss_kernel", "error": "...", ...}          what was found before it failed
    {"row": "loss_kernel", "left_out": "..."}            why it did not run

A row starts only if its least time is left, and nothing runs beyond ``--minutes``. In a dry run
``--minutes`` is the only limit. Rows of the loss need JAX and jaxtyping alone. Rows of training
steps also need what models and checkpoints import: Flax, Optax, Orbax, ml_collections, Pillow,
sentencepiece and tokenizers. Nothing needs grain, PyAV or data.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

# The rows in their order: the seconds after which a row is cut off, and those it needs at least.
ROWS = {
    "device": (60, 10),
    "blockwise_against_float64": (90, 15),
    "kernel_against_float64": (90, 15),
    "loss_kernel": (60, 15),
    "loss_blockwise": (60, 15),
    "loss_dense": (60, 15),
    "step_quickstart": (100, 30),
    "resume": (100, 30),
    "step_s3d": (150, 40),
    "step_vit_b": (150, 40),
}
# Seconds kept at the end to kill a process and write the last lines.
_SPARE = 3.0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="when it ends, whatever fails")
    parser.add_argument("--output", default="device.jsonl", help="a file of JSON lines")
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--dry_run", action="store_true", help="small sizes, on the CPU")
    arguments = parser.parse_args()
    arguments.rows = arguments.rows.split(",")
    for name in arguments.rows:
        if name not in ROWS:
            parser.error(f"--rows={name} is unknown; allowed: {', '.join(ROWS)}")
    if not arguments.minutes > 0:
        parser.error(f"--minutes={arguments.minutes} must be above 0")
    return arguments


class Worker:
    """A process that runs rows on request. It starts with the first request.

    Args:
      dry_run: whether sizes are small, and rows have no limits of their own.
      command: of the process; by default that of ``device_rows.py``.
    """

    def __init__(self, dry_run: bool, command: list[str] | None = None):
        self.dry_run = dry_run
        rows = [sys.executable, "-m", "benchmarks.device_rows", *["--dry_run"] * dry_run]
        self._command = command or rows
        self._environment = dict(os.environ)
        if dry_run:
            self._environment["JAX_PLATFORMS"] = "cpu"
        self._process = None

    def run(self, name: str, seconds: float) -> dict[str, Any]:
        """What a row finds, with an ``error`` if it fails, ends the process or takes too long.

        Args:
          name: of the row, a key of ``ROWS``.
          seconds: after which the process is killed.
        """
        if self._process is None:
            self._start()
        found, end = {}, time.monotonic() + seconds
        try:
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
            while True:
                line = self._lines.get(timeout=max(end - time.monotonic(), 0.01))
                if line is None:
                    raise OSError
                if line == "end\n":
                    return found
                found |= json.loads(line)
        except queue.Empty:
            self.stop()
            return {**found, "error": f"cut off after {seconds:.0f} s"}
        except OSError:
            code = self._process.wait()
            last = self._last_error_line()
            self.stop()
            return {**found, "error": f"the process ended with {code}: {last}"}

    def stop(self) -> None:
        """Kills the process and what it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._errors.close()

    def _start(self):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed when it is stopped
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=self._environment,
            cwd=pathlib.Path(__file__).parents[1],
            text=True,
            start_new_session=True,
        )
        self._lines = queue.Queue()
        arguments = self._process.stdout, self._lines
        threading.Thread(target=_hand_on, args=arguments, daemon=True).start()

    def _last_error_line(self):
        self._errors.seek(0)
        lines = self._errors.read().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _hand_on(stdout, lines):
    for line in stdout:
        lines.put(line)
    lines.put(None)


def run_rows(rows: list[str], worker: Worker, minutes: float, output: str | os.PathLike[str]):
    """Runs the rows and writes a line for each as it ends."""
    end = time.monotonic() + 60 * minutes - _SPARE
    with open(output, "w", buffering=1) as file:
        for name in rows:
            most, least = (math.inf, 0) if worker.dry_run else ROWS[name]
            start = time.monotonic()
            left = end - start
            if left < least or left <= 0:
                row = {"left_out": f"{max(left, 0):.0f} s are left, and it needs {least}"}
            else:
                row = worker.run(name, min(most, left))
                row["seconds"] = round(time.monotonic() - start, 1)
            line = json.dumps({"row": name, **row})
            file.write(line + "\n")
            print(line, flush=True)
    worker.stop()


def main():
    arguments = parse_arguments()
    worker = Worker(arguments.dry_run)
    try:
        run_rows(arguments.rows, worker, arguments.minutes, arguments.output)
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
