"""The origin of a result: code, hardware, date and amount of training."""

import datetime
import hashlib
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fgmm

# A file in the folder of a run.
FILE = "provenance.jsonl"


def here() -> dict[str, Any]:
    """Code, hardware and date of this process.

    Returns:
      ``version`` of the package; ``commit`` of its git checkout, with ``+changes`` if tracked files
      were changed, or None outside a checkout; ``jax``, its version; ``devices``, such as
      ``"1 x cpu"``; ``cpu``, the model and the cores that this process may use; ``processes``;
      ``date`` (UTC).
    """
    import jax  # slow to import; not needed to read provenance

    devices = jax.devices()
    return {
        "version": fgmm.__version__,
        "commit": commit(),
        "jax": jax.__version__,
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "cpu": f"{_cores()} cores of {_cpu_model()}",
        "processes": jax.process_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def code_digest(*others: pathlib.Path) -> str:
    """A digest (12 hex digits) of the code of this package and of ``others``."""
    folder = pathlib.Path(fgmm.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    for path in others:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def note_start(workdir: pathlib.Path, step: int, **origin: Any) -> None:
    """Records in a run's folder that this process trains the run from ``step`` on, or made step 0.

    Args:
      workdir: folder of the run.
      step: finished steps.
      origin: further facts about where the parameters come from; those that are None are left out.
    """
    known = {name: value for name, value in origin.items() if value is not None}
    with open(workdir / FILE, "a") as file:
        file.write(json.dumps({"from_step": step, **known, **here()}) + "\n")


def of_run(workdir: pathlib.Path, step: int, batch_size: int) -> dict[str, Any]:
    """How the checkpoint of ``step`` was trained.

    Returns:
      ``started``: the entries of ``note_start`` before that step, one for each start;
      ``examples_seen``; ``train_seconds``: the time of the steps from the second up to ``step``,
      without evaluations and saves (the first step is mostly compilation).
    """
    started = [entry for entry in _lines(workdir / FILE) if entry["from_step"] < max(step, 1)]
    rates = [
        entry["clips_per_second"]
        for entry in _lines(workdir / "metrics.jsonl")
        if 1 < entry["step"] <= step
    ]
    return {
        "started": started,
        "examples_seen": step * batch_size,
        "train_seconds": round(sum(batch_size / rate for rate in rates), 1),
    }


def in_words(starts: Sequence[Mapping[str, Any]]) -> str:
    """Commits, hardware, jax versions and dates of the starts of runs, as one line of text.

    Args:
      starts: entries that ``note_start`` wrote.
    """

    def all_of(key: str) -> str:
        return ", ".join(sorted({str(start[key]) for start in starts}))

    return (
        f"commit {all_of('commit')}; {all_of('cpu')}, {all_of('devices')}, "
        f"jax {all_of('jax')}; {all_of('date')}"
    )


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with open(path) as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # a line that a kill left unfinished
                continue


def commit() -> str | None:
    """The git commit of this package, as in ``here``; None outside a checkout."""
    try:
        described = _git("describe", "--always", "--dirty=+changes", "--exclude=*", "--abbrev=12")
        tracked = _git("ls-files", "--error-unmatch", "provenance.py")
    except (OSError, subprocess.TimeoutExpired):
        return None
    # An installed copy may lie inside the checkout of another project.
    if described.returncode or tracked.returncode:
        return None
    return described.stdout.strip()


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    folder = pathlib.Path(fgmm.__file__).parent
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10
    )


def _cores() -> int | None:
    # macOS does not say which cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
