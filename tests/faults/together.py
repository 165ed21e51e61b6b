"""Faults of several processes, and runs that go on in other numbers of them.

A function here takes a ``Bench`` and returns a ``Trial``, as in ``alone.py``.
"""

import json
import os
import pathlib
import shutil
import signal
import time

import numpy as np

from tests.faults.harness import PATIENCE, Bench, Job, Trial, continued_from
from tests.faults.harness import wait_until as until
from tests.faults.small import STEPS

# Seconds that the tests allow processes to notice that another is silent, and to come together.
HEARTBEAT, MEETING = 8, 30
# Seconds by which the others have ended: what they take to end comes on top.
NOTICED = HEARTBEAT + 22
# Of the losses of a run on other devices, relative: in the first 3 steps and in all.
ROUNDING = (1e-5, 1e-3)


def one_is_killed(bench: Bench) -> Trial:
    """SIGKILL to one of two: the other ends with an error; both go on to the same curve."""
    return _both_again(bench, *_one_goes(bench, signal.SIGKILL, "one of two killed"))


def one_stands_still(bench: Bench) -> Trial:
    """SIGSTOP to one of two: the other ends with an error after ``--heartbeat_timeout``."""
    return _both_again(bench, *one_stopped(bench))


def one_stopped(bench: Bench) -> tuple[Job, Trial]:
    """As ``one_stands_still``, but what ended is not started again."""
    return _one_goes(bench, signal.SIGSTOP, "one of two stopped")


def _one_goes(bench: Bench, number: signal.Signals, fault: str) -> tuple[Job, Trial]:
    victim = bench.chance.randint(0, 1)
    job = bench.job(f"--heartbeat_timeout={HEARTBEAT}", processes=2, environment={"PAUSE": "0.03"})
    reached = bench.chance.randint(6, STEPS - 10)
    with job.start() as running:
        until(lambda: job.step() >= reached, running)
        running.signal(number, victim)
        began = time.monotonic()
        code = running.processes[1 - victim].wait(PATIENCE)
        seconds = time.monotonic() - began
        stopped = running.processes[victim].poll() is None
        assert stopped == (number == signal.SIGSTOP)
        if stopped:
            running.signal(signal.SIGCONT, victim)
        codes = running.ended(HEARTBEAT + 60)
        said = running.output(1 - victim)
    assert code not in (0, None), said
    if number == signal.SIGKILL:
        assert codes[victim] == -signal.SIGKILL
    assert codes[victim] != 0
    assert seconds <= NOTICED, f"it took {seconds:.0f} s: {said}"
    assert _explains(said), said
    trial = Trial(fault, f"process {victim} after step {reached}", codes, job.step(), None)
    trial.seconds = round(seconds, 1)
    return job, trial


def _both_again(bench: Bench, job: Job, trial: Trial) -> Trial:
    with job.start() as running:
        trial.continued_from = continued_from(running.finish())
    expected = bench.expected(f"--heartbeat_timeout={HEARTBEAT}", processes=2)
    trial.equal = job.curve() == expected
    assert trial.equal, trial
    return trial


def _explains(said: str) -> bool:
    """Whether a process says that it ends because of another."""
    words = ("the others with it", "heartbeat timeout", "another task died", "unhealthy")
    return any(word in said for word in words)


def damaged_for_two(bench: Bench) -> Trial:
    """Both take the checkpoint before the one that cannot be read."""
    flags = (f"--heartbeat_timeout={HEARTBEAT}",)
    job = bench.job(*flags, processes=2)
    shutil.copytree(bench.finished(*flags, processes=2).workdir, job.workdir)
    newest, before = job.saved()[-1], job.saved()[-2]
    folder = job.workdir / "checkpoints" / str(newest) / "state"
    path = bench.chance.choice([folder / "manifest.ocdbt", folder / "_METADATA"])
    size = path.stat().st_size
    os.truncate(path, size // 2)
    assert path.stat().st_size == size // 2
    trial = Trial("damaged checkpoint, two processes", f"{path.name}: half left", [0], STEPS, None)
    with job.start() as running:
        output = running.finish()
    assert f"the checkpoint of step {newest} cannot be read" in output
    trial.continued_from = continued_from(output)
    trial.equal = job.curve() == bench.expected(*flags, processes=2)
    assert trial.equal, trial
    assert trial.continued_from == before, output
    return trial


def one_never_comes(bench: Bench) -> Trial:
    """A process that lives but does not come to a meeting is named after ``--meeting_timeout``."""
    flags = (f"--heartbeat_timeout={HEARTBEAT}", f"--meeting_timeout={MEETING}")
    job = bench.job(*flags, processes=2, environment={"NEVER_COMES": "1"})
    began = time.monotonic()
    with job.start() as running:
        codes = running.ended(PATIENCE)
        seconds = time.monotonic() - began
        said = running.output(0)
    assert codes[0] == 1, said
    assert codes[1] != 0
    late = f"did not reach the point where the others wait within {MEETING} s"
    assert f"process 1 of 2 {late}" in said
    # What it takes to start is no part of the limit.
    trial = Trial("one of two never comes", "at the first meeting", codes, 0, None)
    trial.seconds = round(seconds, 1)
    return trial


def sigterm_to_one(bench: Bench) -> Trial:
    """SIGTERM to one of two: both stop after the same step, saved, and go on as one process on two
    devices: the same clips at every step, the same losses within rounding.
    """
    victim = bench.chance.randint(0, 1)
    records = bench.folder / f"records{bench.chance.randrange(10**9)}"
    records.mkdir()
    job = bench.job(processes=2, environment={"PAUSE": "0.03", "RECORDS": str(records)})
    asked = bench.chance.randint(3, STEPS - 10)
    with job.start() as running:
        until(lambda: job.step() >= asked, running)
        running.signal(signal.SIGTERM, victim)
        codes = running.ended()
        output = running.output()
    stopped = job.step()
    assert codes == [143, 143], output
    assert f"stopped at step {stopped} of {STEPS}, saved" in output
    assert job.saved()[-1] == stopped
    before = _clips(records, 2)
    for path in records.iterdir():
        path.unlink()

    job.processes, job.devices = 1, 2
    with job.start() as running:
        step = continued_from(running.finish())
    after = _clips(records, 1)
    assert step == stopped
    trial = Trial("SIGTERM to one of two", f"process {victim}", codes, stopped, step)
    used = {n: clips for n, clips in before.items() if n <= stopped}
    used |= {n: clips for n, clips in after.items() if n > stopped}
    _check_epochs(used)
    trial.equal = within_rounding(job, bench.expected())
    assert trial.equal, trial
    trial.noted = "then one process on two devices"
    return trial


def _clips(records: pathlib.Path, processes: int) -> dict[int, list[int]]:
    """The clips of every step, in the order of the global batch."""
    found: dict[int, list[int]] = {}
    for process in range(processes):
        for line in (records / f"{process}.jsonl").read_text().splitlines():
            step, clips = json.loads(line)
            found.setdefault(step, []).extend(clips)
    return found


def _check_epochs(used: dict[int, list[int]], clips: int = 64, batch: int = 8) -> None:
    """Every epoch has each clip once, wherever it was interrupted."""
    for first in range(1, STEPS + 1, clips // batch):
        epoch = [clip for step in range(first, first + clips // batch) for clip in used[step]]
        assert sorted(epoch) == list(range(clips)), f"the epoch of step {first} is {sorted(epoch)}"


def within_rounding(job: Job, expected: list[dict]) -> bool:
    """Whether the losses are those of other devices."""
    found, wanted = ([line["loss"] for line in curve] for curve in (job.curve(), expected))
    if len(found) != len(wanted):
        return False
    apart = np.abs(np.array(found) / np.array(wanted) - 1)
    return bool(apart[:3].max() <= ROUNDING[0] and apart.max() <= ROUNDING[1])


def refused(job: Job) -> list[str]:
    """What the processes of a wrong command say, all of which must end for it."""
    with job.start() as running:
        codes = running.ended()
        outputs = [running.output(index) for index in range(job.processes)]
    assert codes == [2] * job.processes, outputs
    return outputs


FAULTS = {
    "one_killed": one_is_killed,
    "one_stopped": one_stands_still,
    "damaged_for_two": damaged_for_two,
    "never_comes": one_never_comes,
    "sigterm_to_one": sigterm_to_one,
}
