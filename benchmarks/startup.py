"""How long programs take to start: to their first line, and in training to the first step.

    python benchmarks/startup.py [--config=quickstart] [--rounds=3]

Each program runs as users start it, in a process of its own: first with an empty cache of compiled
programs and then, ``rounds`` times, with what the first run left there. Wall time depends on what
else the machine does; CPU time, of all threads, depends on it less.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

# Short enough that the start is nearly all that a program does.
TRAIN = ("--config.steps=2", "--config.evals.retrieval.source.clips=64")
TRAIN += ("--config.checkpoint.every_steps=0",)


class Start(NamedTuple):
    """Seconds of a program's start.

    Attributes:
      line: by the clock until it printed something.
      step: by the clock until the first step was written; None of an evaluation.
      whole: by the clock until its end.
      cpu: of all threads until its end.
    """

    line: float
    step: float | None
    whole: float
    cpu: float


def started(command: Sequence[str], cache: pathlib.Path, metrics: pathlib.Path | None) -> Start:
    """Runs a program to its end.

    Args:
      command: its module and flags.
      cache: the folder of compiled programs.
      metrics: the file in which a first line is the first step.
    """
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    before, began = _cpu(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    line = step = None
    printed = b""
    os.set_blocking(process.stdout.fileno(), False)
    while process.poll() is None:
        now = time.perf_counter() - began
        printed += process.stdout.read(1 << 16) or b""
        if line is None and printed:
            line = now
        if metrics is not None and step is None and metrics.exists() and metrics.stat().st_size:
            step = now
        time.sleep(0.02)
    whole = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{printed.decode()}")
    return Start(whole if line is None else line, step, whole, _cpu() - before)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints a table and, as a last line, the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="quickstart")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[str, list[Start]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = pathlib.Path(folder, "cache")
        for number in range(arguments.rounds + 1):
            workdir = pathlib.Path(folder, f"run{number}")
            kind = "warm" if number else "cold"
            train = ("fgmm.main", f"--config={arguments.config}", f"--workdir={workdir}", *TRAIN)
            evaluate = ("fgmm.eval.retrieval", f"--workdir={workdir}")
            for name, command, metrics in (
                ("train", train, workdir / "metrics.jsonl"),
                ("evaluate", evaluate, None),
            ):
                start = started(command, cache, metrics)
                found.setdefault(f"{name}, {kind}", []).append(start)
    print("| program, cache | first line, s | first step, s | whole, s | CPU, s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    medians = {}
    for name, starts in found.items():
        columns = [
            [value for value in column if value is not None] for column in zip(*starts, strict=True)
        ]
        medians[name] = [round(statistics.median(c), 2) if c else None for c in columns]
        print(
            f"| {name} | " + " | ".join("" if m is None else f"{m}" for m in medians[name]) + " |"
        )
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
