"""Faults of a run in one process. Each asserts that it happened before it asserts what follows.

A function here takes a ``Bench`` and returns a ``Trial`` for everything that it did.
"""

import contextlib
import errno
import itertools
import pathlib
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

from tests.data import test_prepare, video_fixture
from tests.faults.harness import CONFIG, Bench, Job, Missed, Trial, continued_from, hit
from tests.faults.harness import wait_until as until
from tests.faults.small import SAVED_EVERY, STEPS

# Moments of a SIGKILL, as they may follow each other in one run.
MOMENTS = (
    ("while it starts", "before the first save"),
    ("between steps",),
    ("while a checkpoint is written",),
    ("while it evaluates",),
    ("between steps", "while a checkpoint is written"),
)


class NotPossibleHere(Exception):
    """The machine does not let this fault happen."""


def sigkill(bench: Bench, kills: int = 5) -> list[Trial]:
    """Kills at moments of all kinds, up to five in a run, which then goes on to its end."""
    trials = []
    while len(trials) < kills:
        job = _watched(bench)
        try:
            mine = [
                _killed(bench, job, bench.chance.choice(moments))
                for moments in MOMENTS[: kills - len(trials)]
            ]
        except Missed:  # nothing happened to that run since its last kill
            assert job.curve() == bench.expected()
            continue
        with job.start() as running:
            output = running.finish()
        _note_starts(mine, continued_from(output))
        equal = job.curve() == bench.expected()
        assert equal, f"another curve after {[trial.moment for trial in mine]}"
        for trial in mine:
            trial.equal = equal
        trials += mine
    return trials


def kill_at(bench: Bench, *moments: str) -> list[Trial]:
    """Kills at the given moments of one run, which then goes on to its end."""
    job = _watched(bench)
    trials = [_killed(bench, job, moment) for moment in moments]
    with job.start() as running:
        _note_starts(trials, continued_from(running.finish()))
    for trial in trials:
        trial.equal = job.curve() == bench.expected()
    return trials


def _watched(bench: Bench) -> Job:
    job = bench.job()
    job.environment = {"EVALUATING": str(job.workdir.with_suffix(".evaluating")), "PAUSE": "0.03"}
    return job


def _note_starts(trials: list[Trial], last: int) -> None:
    """What each kill left is told by the start after it."""
    starts = [int(trial.noted) for trial in trials[1:]] + [last]
    for trial, step in zip(trials, starts, strict=True):
        trial.continued_from, trial.noted = step, ""
        # The metrics of what is saved are on disk before it is, but those of a step that is being
        # evaluated, which its checkpoint holds; a save in progress may be lost.
        assert step <= trial.at_step + (trial.moment == "while it evaluates")
        assert step >= SAVED_EVERY * (trial.at_step // SAVED_EVERY - 2)


def _killed(bench: Bench, job: Job, moment: str) -> Trial:
    """Starts a run and kills it; the step that it started from is left in ``noted``."""
    evaluating = pathlib.Path(job.environment["EVALUATING"])
    evaluating.unlink(missing_ok=True)
    seconds = bench.chance.uniform(0.2, 6.0)
    began, first = time.monotonic(), job.step()
    reached = min(first + bench.chance.randint(1, 9), STEPS - 2)
    with job.start() as running:

        def trained() -> bool:
            return "continuing from" in running.output() or job.step() > 0

        conditions = {
            "while it starts": lambda: time.monotonic() - began > seconds and not trained(),
            "before the first save": lambda: job.step() > 0 and not job.saved(),
            "between steps": lambda: trained() and job.step() >= reached,
            "while a checkpoint is written": lambda: trained() and bool(job.unfinished()),
            "while it evaluates": evaluating.exists,
        }
        happened = conditions[moment]
        if moment == "while a checkpoint is written":
            left = set(job.unfinished())  # by an earlier kill
            happened = lambda: bool(set(job.unfinished()) - left)  # noqa: E731
        hit(running, happened, lambda: running.signal(signal.SIGKILL))
        codes = running.ended()
        started = continued_from(running.output())
    assert codes == [-signal.SIGKILL], running.output()
    assert happened() or moment in ("while it starts", "between steps")
    return Trial("sigkill", moment, codes, job.step(), None, noted=str(started))


def sigterm(bench: Bench) -> Trial:
    """Asked to stop, it saves after the step that it is in, and says how to go on."""
    job = bench.job(environment={"PAUSE": "0.03"})
    asked = bench.chance.randint(1, STEPS - 10)
    with job.start() as running:
        until(lambda: job.step() >= asked, running)
        before = job.step()
        running.signal(signal.SIGTERM)
        codes = running.ended()
        output = running.output()
    assert "SIGTERM: saving" in output, output
    assert codes == [143], output
    stopped = job.step()
    # Metrics are written a step late; a batch may be on its way to the device.
    assert before <= stopped <= before + 4, (before, stopped)
    assert f"SIGTERM: stopped at step {stopped} of {STEPS}, saved" in output
    assert job.saved()[-1] == stopped
    return _resumed(bench, job, Trial("sigterm", f"step {before}", codes, stopped, None), stopped)


def _resumed(bench: Bench, job: Job, trial: Trial, step: int | None = None, **options) -> Trial:
    """Starts the same command again and compares the curve."""
    with job.start() as running:
        trial.continued_from = continued_from(running.finish())
    assert step is None or trial.continued_from == step, (trial, running.output())
    trial.equal = job.curve() == bench.expected(**options)
    assert trial.equal, trial
    return trial


def damaged_checkpoint(bench: Bench) -> Trial:
    """A file of the newest checkpoint is cut short or gone: the one before it is taken."""
    job = _finished(bench)
    newest, before = job.saved()[-1], job.saved()[-2]
    folder = job.workdir / "checkpoints" / str(newest)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    vital = [path for path in files if _vital(path.relative_to(folder))]
    path, cut = bench.chance.choice(vital), bench.chance.choice(["half", "nothing", "no file"])
    size = _cut(path, cut)
    with job.start() as running:
        output = running.finish()
    trial = Trial("damaged checkpoint", f"{path.relative_to(folder)}: {cut} left", [0], STEPS, None)
    trial.continued_from = continued_from(output)
    assert trial.continued_from == before, (trial, output)
    assert f"the checkpoint of step {newest} cannot be read" in output
    aside = job.workdir / "damaged" / str(newest) / path.relative_to(folder)
    assert (aside.stat().st_size if aside.exists() else None) == size
    assert job.saved()[-1] == newest
    trial.equal = job.curve() == bench.expected()
    assert trial.equal, trial
    return trial


def _finished(bench: Bench) -> Job:
    """A copy of the workdir of a finished run."""
    job = bench.job()
    shutil.copytree(bench.finished().workdir, job.workdir)
    return job


def _vital(path: pathlib.Path) -> bool:
    """Whether a checkpoint is of no use without that file; Orbax reads on without the others."""
    return (
        (path.name == "manifest.ocdbt" and len(path.parts) == 2)
        or str(path) in (*("config/metadata", "position/metadata", "state/_METADATA"),)
        or path.parts[:2] == ("state", "d")
    )


def _cut(path: pathlib.Path, left: str) -> int | None:
    """Cuts a file short and returns its new size, None if it is gone."""
    size = path.stat().st_size
    if left == "no file":
        path.unlink()
        assert not path.exists()
        return None
    size = size // 2 if left == "half" else 0
    with path.open("r+b") as file:
        file.truncate(size)
    assert path.stat().st_size == size
    return size


def no_whole_checkpoint(bench: Bench) -> Trial:
    """Nothing is started over checkpoints of which none can be read."""
    job = _finished(bench)
    for step in job.saved():
        _cut(job.workdir / "checkpoints" / str(step) / "state" / "manifest.ocdbt", "half")
    before, metrics = _listed(job.workdir), job.lines()
    with job.start() as running:
        codes = running.ended()
        output = running.output()
    assert codes == [2], output
    assert "none of its checkpoints can be read" in output
    for step in job.saved():
        assert f"step {step}: " in output
    assert _listed(job.workdir) == before
    assert job.lines() == metrics
    return Trial("no whole checkpoint", "at a start", codes, STEPS, None)


def _listed(folder: pathlib.Path) -> set[tuple[str, int]]:
    return {
        (str(path.relative_to(folder)), path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def disk_full(bench: Bench) -> Trial:
    """The disk of the workdir fills up: it stops, says so, and goes on once there is space."""
    with _small_disk(bench.folder / "disk", megabytes=16) as disk:
        job = bench.job(folder=disk, environment={"PAUSE": "0.03"})
        wanted = bench.chance.randint(SAVED_EVERY, STEPS - 2 * SAVED_EVERY)
        with job.start() as running:
            until(lambda: job.step() >= wanted and bool(job.saved()), running)
            filled_at = job.step()
            _fill(disk / "filler")
            codes = running.ended()
            output = running.output()
        assert codes == [1], output
        assert f"no space left to write to on the disk of --workdir={job.workdir}" in output, output
        reached, saved = job.step(), job.saved()[-1]
        assert f"step {saved} is saved" in output, output
        with job.start() as running:  # still full
            assert running.ended() == [1], running.output()
            assert "no space left" in running.output()
        (disk / "filler").unlink()
        trial = Trial("disk full", f"step {filled_at}", codes, reached, None)
        return _resumed(bench, job, trial, saved)


def no_larger_files(bench: Bench) -> Trial:
    """As a full disk, where none can be mounted: no file may become larger than it is."""
    job = bench.job(environment={"PAUSE": "0.03"})
    wanted = bench.chance.randint(SAVED_EVERY, STEPS - 2 * SAVED_EVERY)
    with job.start() as running:
        until(lambda: job.step() >= wanted and bool(job.saved()), running)
        limited_at, size = job.step(), (job.workdir / "metrics.jsonl").stat().st_size
        resource.prlimit(running.processes[0].pid, resource.RLIMIT_FSIZE, (size, size))
        codes = running.ended()
    # 120 where its last words, which are in a file too, do not fit either.
    assert codes in ([1], [120]), running.output()
    assert (job.workdir / "metrics.jsonl").stat().st_size <= max(size, 1)
    trial = Trial("no larger files", f"step {limited_at}", codes, job.step(), None)
    return _resumed(bench, job, trial, job.saved()[-1])


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path, megabytes: int) -> Iterator[pathlib.Path]:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        raise NotPossibleHere(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: pathlib.Path) -> None:
    """Takes the last byte of a disk."""
    with path.open("wb", buffering=0) as file:
        try:
            for _ in itertools.count():
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error  # noqa: PT017


def nan_in_a_batch(bench: Bench) -> Trial:
    """Two updates are skipped and counted, and nothing else changes; killed after them, the run
    goes on to the same curve.
    """
    spoiled, nan = _spoiled(bench)
    job = bench.job(environment={**nan, "PAUSE": "0.03"})
    with job.start() as running:
        until(lambda: job.step() > spoiled[-1], running)
        codes = running.kill()
    assert codes == [-signal.SIGKILL]
    trial = Trial("nan in a batch", f"steps {spoiled}", codes, job.step(), None)
    _resumed(bench, job, trial, environment=nan)
    check_skipped(job.curve(), bench.expected(), spoiled)
    return trial


def nan_without_a_kill(bench: Bench) -> None:
    """As ``nan_in_a_batch``, in one go."""
    spoiled, nan = _spoiled(bench)
    check_skipped(bench.expected(environment=nan), bench.expected(), spoiled)


def _spoiled(bench: Bench) -> tuple[list[int], dict[str, str]]:
    first = bench.chance.randint(SAVED_EVERY + 1, STEPS - 12)
    return [first, first + 1], {"NAN_STEPS": f"{first},{first + 1}"}


def check_skipped(curve: list[dict], clean: list[dict], spoiled: list[int]) -> None:
    """Compares a curve with that of a run whose every batch was good."""
    assert [line["step"] for line in curve if line["skipped"]] == spoiled
    assert [curve[step - 1]["loss"] for step in spoiled] == [None, None]
    assert [curve[step - 1]["nonfinite_run"] for step in spoiled] == [1, 2]
    before, after = spoiled[0] - 1, spoiled[-1]
    assert curve[:before] == clean[:before]
    # From there on the parameters lack two updates; the learning rate goes by steps all the same.
    assert all(line["loss"] is not None and line["nonfinite_run"] == 0 for line in curve[after:])
    rates = [[line["learning_rate"] for line in run[after:]] for run in (curve, clean)]
    assert rates[0] == rates[1]


def shard_deleted(bench: Bench) -> Trial:
    """A shard of a prepared corpus goes away: the run goes on, with what is missing counted, and a
    new start names the shard.
    """
    root = bench.folder / "prepared"
    if not root.exists():
        corpus = video_fixture.write_howto100m(bench.folder / "corpus", 16)
        test_prepare.written(test_prepare.task_of(corpus, root, "howto100m:validation=0.0"))
    config = f"{CONFIG}:root={root}"
    expected = bench.expected(config=config)
    job = bench.job(config=config, environment={"PAUSE": "0.03"})
    shard = bench.chance.choice(sorted(root.glob("*.array_record-*")))
    away, reached = bench.folder / "away", bench.chance.randint(0, STEPS - 10)
    shutil.copy(shard, away)
    with job.start() as running:
        until(lambda: job.step() >= reached, running)
        at = job.step()
        shard.unlink()
        codes = running.ended()
        assert not shard.exists()
        assert codes == [0], running.output()
    trial = Trial("shard deleted", f"step {at}", codes, at, None, equal=job.curve() == expected)
    counted = job.lines()[-1].get("bad_input/unreadable_video", 0)
    assert job.saved()[-1] == STEPS
    assert trial.equal or counted
    # An open file stays readable until it is closed.
    trial.noted = f"{counted:.0f} clips masked"
    with job.start() as running:
        assert running.ended() == [2], running.output()
        assert shard.name in running.output(), running.output()
    shutil.move(away, shard)
    with job.start() as running:
        trial.continued_from = continued_from(running.finish())
    if counted:
        trial.equal = None
    return trial


FAULTS = {
    "sigkill": sigkill,
    "sigterm": sigterm,
    "damaged": damaged_checkpoint,
    "none_whole": no_whole_checkpoint,
    "disk_full": disk_full,
    "no_larger_files": no_larger_files,
    "nan": nan_in_a_batch,
    "shard_deleted": shard_deleted,
}
