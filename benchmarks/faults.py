"""Faults of training runs, each tried many times: what happened, and what came of it.

    python benchmarks/faults.py [--trials=4] [--kills=50] [--minutes=60] [--only=sigkill,...]

Real processes are killed, stopped, signalled, given damaged checkpoints and full disks. The tests
in ``tests/faults`` try each fault once. After a fault the same command continues the run, and every
metric of every step is compared with that of an uninterrupted run. Every trial is written to
``--output``; ``python -m benchmarks.pages.faults_table`` makes a table of that file. The exit code
is 1 if anything was lost.
"""

import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from fgmm import command_line, provenance
from fgmm.config import as_dict
from tests.faults import alone, small, together
from tests.faults.harness import Bench, Trial

FAULTS = {**alone.FAULTS, **together.FAULTS}


def tried(bench: Bench, name: str, trials: int, kills: int, deadline: float) -> dict[str, Any]:
    """The trials of a fault as ``trials``, the errors of those that failed as ``failures``, and why
    the fault is ``not_possible`` on this machine.
    """
    found, wanted, failures = [], kills if name == "sigkill" else trials, []
    while len(found) + len(failures) < wanted and time.monotonic() < deadline:
        try:
            if name == "sigkill":
                found += FAULTS[name](bench, min(5, wanted - len(found)))
            else:
                found.append(FAULTS[name](bench))
        except alone.NotPossibleHere as error:
            return {"trials": [], "failures": [], "not_possible": str(error)}
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}"[-3000:])
        _show(name, found, failures)
    return {"trials": [dataclasses.asdict(trial) for trial in found], "failures": failures}


def _show(name: str, found: list[Trial], failures: list[str]) -> None:
    if failures:
        print(f"{name}: FAILED {failures[-1]}", flush=True)
    if found:
        last = found[-1]
        print(
            f"{name} {len(found)}: {last.moment}; ended {last.ended} at step {last.at_step}; went "
            f"on from {last.continued_from}; equal {last.equal}",
            flush=True,
        )


def _flags() -> None:
    flags.DEFINE_integer("trials", 4, "Trials of each fault but SIGKILL.")
    flags.DEFINE_integer("kills", 50, "SIGKILLs.")
    flags.DEFINE_float("minutes", 60.0, "No trial begins after these.")
    flags.DEFINE_list("only", list(FAULTS), "Which faults.")
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    flags.DEFINE_string("output", "docs/results/faults.json", "Where the trials go, as JSON.")


def main(argv):
    options = flags.FLAGS
    unknown = [name for name in options.only if name not in FAULTS]
    if unknown or argv[1:]:
        sys.exit(f"error: --only={','.join(options.only)}: allowed are {', '.join(FAULTS)}")
    # Programs are compiled once for all starts.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath(".cache/jax"))
    began = time.monotonic()
    deadline = began + 60 * options.minutes
    faults = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(pathlib.Path(folder), options.seed)
        for name in options.only:
            faults[name] = tried(bench, name, options.trials, options.kills, deadline)
            _write(pathlib.Path(options.output), faults, began)
    return 1 if any(fault["failures"] for fault in faults.values()) else 0


def _write(path: pathlib.Path, faults: dict[str, Any], began: float) -> None:
    """Adds the faults that were tried to those in the file, with where and when each was."""
    origin = provenance.here() | {"seed": flags.FLAGS.seed}
    origin["minutes"] = round((time.monotonic() - began) / 60, 1)
    before = json.loads(path.read_text())["faults"] if path.exists() else {}
    result = {
        "config": as_dict(small.get_config()),
        "faults": before | {name: {**fault, **origin} for name, fault in faults.items()},
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    _flags()
    command_line.run(main)
