"""Damages files again and again, and sees what becomes of what reads them.

    python -m tests.data.fuzz --formats=mp4,ogg --mutations=10000 [--seconds=600] [--first=0]

Every mutation has a number; with its format that is its seed, so ``--first=NUMBER --mutations=1``
repeats it. A child process reads the damaged files and says which one it is about to read, so that
one that ends it, or that it never comes back from, is known; another child then goes on behind it.
"""

import argparse
import collections
import dataclasses
import faulthandler
import importlib
import json
import os
import pathlib
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping

from tests.data.damage import damaged

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TARGETS = "tests.data.fuzz_targets:targets"
# Of a mutation: seconds of processor time at most, and seconds after which the child is ended.
PROCESSOR_SECONDS, PATIENCE = 5.0, 30.0
# Megabytes that reading a damaged file may take.
MEGABYTES = 512
# Megabytes that the child may ask for at all, so that no mutation costs the machine its memory.
_ADDRESS_SPACE = 16_384
# Lines of a traceback that are told.
_TOLD = 12
# Of the mutations, one in so many is of a real file where there are some.
_REAL = 8


@dataclasses.dataclass(frozen=True)
class Target:
    """A file in its corpus, and what reads it.

    Attributes:
      file: where damaged bytes are put.
      originals: whole contents of the file, which are damaged in turn.
      read: reads the corpus with the damaged file, and says whether what the file is for could
        still be used, and the reasons that were counted; raises anything where it misbehaves.
      real: contents that nobody made for this, if there are any.
      usual: reasons that are counted where nothing is damaged.
    """

    file: pathlib.Path
    originals: tuple[bytes, ...]
    read: Callable[[], tuple[bool, set[str]]]
    real: tuple[bytes, ...] = ()
    usual: frozenset[str] = frozenset()


@dataclasses.dataclass
class Outcome:
    """What became of the mutations of a format.

    Attributes:
      mutations: how many there were.
      decoded: of how many the file could still be used.
      refused: of how many there was a reason.
      reasons: how often each was counted.
      spent, slowest: seconds of processor time of all, and of the slowest.
      megabytes: of memory, most that one took.
      failures: what went wrong, each with the seed that repeats it.
    """

    mutations: int = 0
    decoded: int = 0
    refused: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    spent: float = 0.0
    slowest: float = 0.0
    megabytes: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, seed: str, told: dict) -> None:
        """Takes in what the child told of a mutation."""
        self.mutations += 1
        self.decoded += told.get("decoded", False)
        self.refused += bool(told.get("reasons"))
        self.reasons.update(told.get("reasons", ()))
        self.spent += told.get("seconds", 0.0)
        self.slowest = max(self.slowest, told.get("seconds", 0.0))
        self.megabytes = max(self.megabytes, told.get("megabytes", 0.0))
        if told.get("seconds", 0.0) > PROCESSOR_SECONDS:
            self._fail(seed, f"took {told['seconds']:.1f} s")
        if told.get("megabytes", 0.0) > MEGABYTES:
            self._fail(seed, f"took {told['megabytes']:.0f} MB of memory")
        if "failed" in told:
            self._fail(seed, told["failed"])

    def different(self, most: int = 10) -> list[str]:
        """Failures, the first of those that end alike."""
        first = {failure.splitlines()[-2][:60]: failure for failure in reversed(self.failures)}
        return list(reversed(first.values()))[:most]

    def _fail(self, seed: str, what: str) -> None:
        form, number = seed.split(":")
        repeat = f"python -m tests.data.fuzz --formats={form} --first={number} --mutations=1"
        self.failures.append(f"{seed}: {what}\n  repeat: {repeat}")


def run(
    mutations: Mapping[str, int],
    *,
    first: int = 0,
    targets: str = TARGETS,
    shared: pathlib.Path | None = None,
    seconds: float = 0.0,
    patience: float = PATIENCE,
) -> dict[str, Outcome]:
    """Damages files of each format.

    Args:
      mutations: how many of each format, by name.
      first: number of the first mutation of each.
      targets: module and function that gives the targets of a folder, by format.
      shared: a folder of real corpora, from which a part of the files is taken.
      seconds: for each format at most, of the child's processor time; 0 for no limit.
      patience: seconds after which a child that says nothing is ended.
    """
    outcomes = {form: Outcome() for form in mutations}
    waiting = {form: [first, first + count] for form, count in mutations.items()}
    # What the child does before its first mutation, and what it cannot do at all.
    failed_starts = 0
    while waiting and failed_starts < 2:
        task = {"waiting": waiting, "targets": targets, "shared": shared and str(shared)}
        task["seconds"] = {form: seconds - outcomes[form].spent for form in waiting if seconds}
        failed_starts += not _run_child(task, waiting, outcomes, patience)
    if waiting:
        raise RuntimeError(f"the child does not start; left were {waiting}")
    return outcomes


def _run_child(task: dict, waiting: dict, outcomes: dict[str, Outcome], patience: float) -> bool:
    """Runs a child until it ends, and takes what it has done off ``waiting``; whether it has done
    anything.
    """
    command = [sys.executable, "-m", "tests.data.fuzz", "--child", json.dumps(task)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        current, done = "", 0
        for line in _lines(child, patience):
            told = json.loads(line)
            current = told["seed"]
            form, number = current.split(":")
            if "decoded" in told or "failed" in told:
                outcomes[form].add(current, told)
                waiting[form][0], current, done = int(number) + 1, "", done + 1
            if told.get("over") or waiting[form][0] == waiting[form][1]:
                waiting.pop(form)
                current = ""
        hung = child.poll() is None
        child.kill()
        code = child.wait()
        errors.seek(0)
        said = errors.read().strip()[-3000:]
    if current:
        form, number = current.split(":")
        what = f"no answer in {patience:g} s" if hung else f"ended the process ({code})"
        outcomes[form].add(current, {"failed": f"{what}\n{said}"})
        waiting[form][0] = int(number) + 1
        if waiting[form][0] == waiting[form][1]:
            waiting.pop(form)
    elif not done and waiting:
        print(said, file=sys.stderr)
    return bool(current or done)


def _lines(child: subprocess.Popen, patience: float):
    """What a child writes, until it ends or is silent for too long; its start may take longer."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        buffer, limit = b"", 10 * patience
        while selector.select(limit):
            part = os.read(child.stdout.fileno(), 1 << 16)
            if not part:
                child.wait()
                return
            *lines, buffer = (buffer + part).split(b"\n")
            limit = patience
            yield from lines


def _be_child(task: dict) -> None:
    """Reads damaged files, and says of each what became of it."""
    faulthandler.enable()
    memory = _ADDRESS_SPACE << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    module, _, name = task["targets"].partition(":")
    shared = pathlib.Path(task["shared"]) if task["shared"] else None
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes where errors go
    with tempfile.TemporaryDirectory() as folder:
        make = getattr(importlib.import_module(module), name)
        targets = make(pathlib.Path(folder), shared, tuple(task["waiting"]))
        for form, (first, past) in task["waiting"].items():
            _demand_readable(form, targets[form])
            left = task["seconds"].get(form, float("inf"))
            for number in range(first, past):
                seed = f"{form}:{number}"
                print(json.dumps({"seed": seed}), file=out)
                told = _read(targets[form], seed, number)
                left -= told["seconds"]
                over = left < 0
                print(json.dumps({"seed": seed, "over": over, **told}), file=out)
                if over:
                    break


def _demand_readable(form: str, target: Target) -> None:
    """Raises where a whole file is not read as such: then damage would show nothing."""
    for number, data in enumerate((*target.originals, *target.real)):
        target.file.write_bytes(data)
        decoded, reasons = target.read()
        if not decoded or reasons - target.usual:
            raise AssertionError(f"undamaged {form} number {number}: {decoded}, {reasons}")


def _read(target: Target, seed: str, number: int) -> dict:
    originals = target.real if target.real and number % _REAL == 0 else target.originals
    data, done = damaged(originals[number // _REAL % len(originals)], seed)
    target.file.write_bytes(data)
    held, started = _forget_peak(), time.process_time()
    try:
        decoded, reasons = target.read()
        told = {"decoded": decoded, "reasons": sorted(reasons - target.usual)}
    except Exception:
        trace = "".join(traceback.format_exc().strip().splitlines(keepends=True)[-_TOLD:])
        told = {"failed": f"{done} of {len(data)} bytes\n{trace}"}
    told["seconds"] = time.process_time() - started
    return told | {"megabytes": _memory("VmHWM") - held}


def _forget_peak() -> float:
    """Has the kernel measure the peak of memory anew; megabytes that are held now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmHWM")


def _memory(name: str) -> float:
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def table(outcomes: Mapping[str, Outcome]) -> str:
    """The outcomes for a page."""
    rows = [
        "| format | mutations | usable | with a reason | slowest | memory | failures |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for form, o in outcomes.items():
        shares = f"{o.decoded / max(1, o.mutations):.0%} | {o.refused / max(1, o.mutations):.0%}"
        rows.append(
            f"| {form} | {o.mutations:,} | {shares} | {o.slowest:.2f} s | {o.megabytes:.0f} MB | "
            f"{len(o.failures)} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--formats", default="", help="separated by commas; all without")
    parser.add_argument("--mutations", type=int, default=1000, help="of each format at most")
    parser.add_argument("--seconds", type=float, default=0.0, help="processor time for each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--shared", type=pathlib.Path, help="folder of real corpora")
    arguments = parser.parse_args()
    if arguments.child:
        _be_child(json.loads(arguments.child))
        return
    module, _, _ = TARGETS.partition(":")
    names = (
        arguments.formats.split(",")
        if arguments.formats
        else importlib.import_module(module).FORMATS
    )
    failed = False
    for form in names:
        outcomes = run(
            {form: arguments.mutations},
            first=arguments.first,
            shared=arguments.shared,
            seconds=arguments.seconds,
        )
        print(table(outcomes).splitlines()[-1], dict(outcomes[form].reasons), flush=True)
        for failure in outcomes[form].different():
            print(failure, flush=True)
        failed |= bool(outcomes[form].failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
