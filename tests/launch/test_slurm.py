"""launch/slurm.sbatch with stand-ins for SLURM's programs: when it requeues and when not."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

SRUN = """#!/bin/bash
printf '%s\\n' "$@" >"$0.arguments"
touch "$0.started"
while [ -e "$0.waits" ]; do sleep 0.05; done
exit "$(cat "$0.code")"
"""
SCONTROL = """#!/bin/bash
echo "$*" >>"$0.calls"
"""
# What ends the tasks lets srun return.
SCANCEL = """#!/bin/bash
echo "$*" >>"$0.calls"
rm -f "${0%scancel}srun.waits"
"""


class Slurm:
    """A folder with srun, scontrol and scancel, and the environment of job 7."""

    def __init__(self, folder, repository):
        self.folder, self.repository = folder / "bin", repository
        self.folder.mkdir()
        self.workdir = folder / "run"
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("scancel", SCANCEL)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": "7",
            "SLURM_SUBMIT_DIR": str(repository),
        }

    def start(self, *arguments, code=0, waits=False, **environment):
        (self.folder / "srun.code").write_text(str(code))
        if waits:
            (self.folder / "srun.waits").touch()
        # A copy elsewhere, as SLURM has it.
        script = self.folder / "slurm_script"
        script.write_text((self.repository / "launch" / "slurm.sbatch").read_text())
        return subprocess.Popen(
            ["bash", str(script), f"--workdir={self.workdir}", *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments, **how):
        process = self.start(*arguments, **how)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def wait_for_srun(self):
        deadline = time.monotonic() + 30
        while not (self.folder / "srun.started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def calls(self, name):
        path = self.folder / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def checkpoint(self, step, steps=100):
        folder = self.workdir / "checkpoints" / str(step) / "config"
        folder.mkdir(parents=True)
        (folder / "metadata").write_text(json.dumps({"steps": steps}))


@pytest.fixture
def slurm(tmp_path, repository):
    return Slurm(tmp_path, repository)


def test_the_dry_run_prints_the_command_of_the_tasks(repository):
    done = subprocess.run(
        [
            *("bash", "launch/slurm.sbatch", "--dry-run"),
            *("--config=configs/quickstart.py", "--workdir=two words"),
        ],
        cwd=repository,
        env={**os.environ, "PYTHON": "python", "SLURM_CPUS_PER_TASK": "6"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert shlex.split(done.stdout) == [
        *("srun", "--kill-on-bad-exit=0", "--wait=90", "--input=none", "--cpus-per-task=6"),
        *("python", "-m", "fgmm.main", "--config=configs/quickstart.py", "--workdir=two words"),
    ]


def test_a_finished_run_is_not_requeued(slurm):
    slurm.checkpoint(90), slurm.checkpoint(100)
    code, output = slurm.run()
    assert code == 0, output
    assert slurm.calls("scontrol") == []
    assert (slurm.folder / "srun.arguments").read_text().split()[-1] == f"--workdir={slurm.workdir}"


@pytest.mark.parametrize("stopped", [130, 143])
def test_a_run_that_was_stopped_is_requeued(stopped, slurm):
    slurm.checkpoint(9), slurm.checkpoint(50)
    code, output = slurm.run(code=stopped)
    assert code == 0, output
    assert slurm.calls("scontrol") == ["requeue 7"]
    assert "stopped before training was finished, saved: requeued" in output


def test_the_workdir_may_be_below_the_home_folder(slurm):
    slurm.checkpoint(100)
    code, _ = slurm.run("--workdir=~/run", HOME=str(slurm.workdir.parent))
    assert code == 0
    assert slurm.calls("scontrol") == []


def test_a_wrong_command_is_not_requeued(slurm):
    code, output = slurm.run(code=2)
    assert code == 2, output
    assert slurm.calls("scontrol") == []


def test_failures_without_progress_are_bounded(slurm):
    for expected in (1, 2):
        code, output = slurm.run(code=137)
        assert code == 0, output
        assert slurm.calls("scontrol") == ["requeue 7"] * expected
    slurm.checkpoint(10)
    for expected in (3, 4):
        slurm.run(code=137)
        assert slurm.calls("scontrol") == ["requeue 7"] * expected
    code, output = slurm.run(code=137)
    assert code == 137
    assert "3 starts in a row brought no new checkpoint" in output
    assert len(slurm.calls("scontrol")) == 4


def test_before_the_time_limit_the_tasks_save_and_the_job_is_requeued(slurm):
    slurm.checkpoint(50)
    process = slurm.start(waits=True, code=143)
    slurm.wait_for_srun()
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert slurm.calls("scancel") == ["--signal=TERM 7"]
    assert slurm.calls("scontrol") == ["requeue 7"]


def test_past_the_time_limit_the_job_is_requeued_as_well(slurm):
    (slurm.folder / "scancel").write_text(SCONTROL)
    process = slurm.start(code=143, waits=True)
    slurm.wait_for_srun()
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(0.3)
    (slurm.folder / "srun.waits").unlink()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert slurm.calls("scancel") == ["--signal=TERM 7"]
    assert slurm.calls("scontrol") == ["requeue 7"]


def test_sigterm_to_all_of_the_job_leaves_srun_alive_and_requeueing_to_slurm(slurm):
    slurm.checkpoint(50)
    process = slurm.start(waits=True, code=143)
    slurm.wait_for_srun()
    os.killpg(process.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    (slurm.folder / "srun.waits").unlink()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert slurm.calls("scontrol") == []


def test_what_cannot_work_is_said_at_once(slurm, tmp_path):
    code, output = slurm.run(SLURM_GPUS_ON_NODE="8")
    assert code == 2
    assert "1 tasks for 8 GPUs a node; sbatch --ntasks-per-node=8" in output
    code, output = slurm.run(SLURM_SUBMIT_DIR=str(tmp_path))
    assert code == 2
    assert "is not the repository" in output
    assert not (slurm.folder / "srun.started").exists()
