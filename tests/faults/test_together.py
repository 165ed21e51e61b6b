"""Faults of two processes, the short form of ``benchmarks/faults.py``."""

import shutil

import pytest

from fgmm.train.checkpoint import WorkdirLock
from tests.faults import together
from tests.faults.harness import REPOSITORY


@pytest.mark.long
def test_the_other_ends_when_one_stands_still(bench):
    _, trial = together.one_stopped(bench)
    assert trial.seconds <= together.NOTICED


@pytest.mark.long
def test_a_process_that_never_comes_is_named(bench):
    assert together.one_never_comes(bench).ended[0] == 1


@pytest.mark.long
def test_two_stop_together_and_go_on_as_one_on_two_devices(bench):
    assert together.sigterm_to_one(bench).equal


def test_a_batch_that_does_not_divide(bench):
    job = bench.job("--config.batch_size=9", processes=2)
    first, second = together.refused(job)
    assert "batch_size=9" in first
    assert "error" not in second
    assert not job.saved()


@pytest.mark.long
def test_a_workdir_in_use(bench):
    job = bench.job(processes=2)
    with WorkdirLock(job.workdir):
        first, second = together.refused(job)
    assert f"--workdir={job.workdir} is in use by a live process" in first
    assert "error" not in second


def test_a_workdir_that_cannot_be_written(bench):
    job = bench.job(processes=2)
    file = bench.folder / "file"
    file.touch()
    job.flags = (f"--workdir={file / 'run'}",)
    first, second = together.refused(job)
    assert f"--workdir={file / 'run'} cannot be written: Not a directory" in first
    assert "error" not in second


def test_other_code_on_another_host(bench):
    """The second process runs a copy of the code in which a comment differs."""
    job = bench.job(processes=2)
    other = bench.folder / "other"
    for name in ("fgmm", "configs", "tests"):
        shutil.copytree(REPOSITORY / name, other / name)
    (other / "fgmm" / "main.py").open("a").write("# changed\n")
    job.folders = (REPOSITORY, other)
    first, second = together.refused(job)
    assert "code of fgmm is" in first
    assert "error" not in second
