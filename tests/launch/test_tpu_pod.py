"""launch/tpu_pod.sh with a stand-in for gcloud, whose only worker is a folder of this machine."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

# Copies into the worker's home, and runs what is for the worker there.
GCLOUD = """#!/bin/bash
printf '%q ' "$@" >>"$0.calls"; echo >>"$0.calls"
[ "$4" = ssh ] || exit 0
cd "$WORKER"
for argument in "$@"; do
    case $argument in --command=*) exec env HOME="$WORKER" bash -c "${argument#*=}" ;; esac
done
"""
# Takes pip's commands, and trains until it is stopped.
PYTHON = """#!/bin/bash
printf '%s\\n' "$@" >>"$WORKER/python.arguments"
[ "$2" = fgmm.main ] || exit 0
echo training
trap 'echo saved; exit 143' TERM
if [[ " $* " = *wrong* ]]; then exit 2; fi
while :; do sleep 0.1; done
"""


class Pod:
    def __init__(self, folder, repository):
        self.repository, self.worker = repository, folder / "worker"
        self.bin = folder / "bin"
        self.python = self.worker / "fgmm/.venv/bin/python"
        for path, text in (
            (self.bin / "gcloud", GCLOUD),
            (self.python, PYTHON),
            (self.python.with_name("pip"), "#!/bin/bash\n"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def __call__(self, *arguments):
        return subprocess.run(
            ["bash", "launch/tpu_pod.sh", *arguments],
            cwd=self.repository,
            env={
                **os.environ,
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "WORKER": str(self.worker),
                "ZONE": "us-central2-b",
                "PYTHON3": sys.executable,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self):
        path = self.bin / "gcloud.calls"
        return [shlex.split(line) for line in path.read_text().splitlines()]


@pytest.fixture
def pod(tmp_path, repository):
    pod = Pod(tmp_path, repository)
    yield pod
    pid = pod.worker / "fgmm/train.pid"
    if pid.exists():
        subprocess.run(["kill", "-KILL", pid.read_text().strip()], stderr=subprocess.DEVNULL)


def test_setup_brings_the_commit_and_the_environment(pod):
    done = pod("setup", "pod")
    assert done.returncode == 0, done.stderr
    copy, remote = pod.calls()
    assert copy == [
        *("compute", "tpus", "tpu-vm", "scp", "/tmp/fgmm.bundle", "pod:/tmp/fgmm.bundle"),
        *("--worker=all", "--zone=us-central2-b"),
    ]
    assert remote[:7] == [
        *("compute", "tpus", "tpu-vm", "ssh", "pod", "--worker=all", "--zone=us-central2-b")
    ]
    heads = [
        subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder)
        for folder in (pod.repository, pod.worker / "fgmm")
    ]
    assert heads[0] == heads[1]
    assert ".[tpu]" in (pod.worker / "python.arguments").read_text().split()


def test_a_run_is_started_stopped_and_followed(pod):
    flags = ["--config=configs/a.py:b=1,c=2", "--workdir=/shared/two words"]
    assert pod("start", "pod", *flags).returncode == 0
    assert (pod.worker / "python.arguments").read_text().splitlines() == ["-m", "fgmm.main", *flags]
    again = pod("start", "pod", *flags)
    assert again.returncode == 2
    assert "it is training already" in again.stderr
    stopped = pod("stop", "pod")
    assert stopped.returncode == 0
    assert stopped.stdout == "saved\n"
    followed = pod("follow", "pod")
    assert followed.returncode == 143, followed.stderr
    assert followed.stdout == "training\nsaved\n"


def test_following_a_run_that_fails_fails(pod):
    pod("start", "pod", "--config=wrong")
    assert pod("follow", "pod").returncode == 2


def test_the_dry_run_prints_what_gcloud_would_be_told(pod):
    done = pod("--dry-run", "start", "pod", "--workdir=/shared/run")
    assert done.returncode == 0
    assert shlex.split(done.stdout)[:-1] == [
        *("gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--worker=all"),
        "--zone=us-central2-b",
    ]
    assert " .venv/bin/python -m fgmm.main --workdir=/shared/run >train.log" in done.stdout
    assert not pathlib.Path(pod.bin / "gcloud.calls").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["start", "pod"], "start needs the flags"),
        (["setup"], "the name of the TPU is missing"),
        (["go", "pod"], "unknown command 'go'"),
        (["stop", "pod", "now"], "stop takes no argument 'now'"),
    ],
)
def test_a_wrong_command_is_named(pod, arguments, message):
    done = pod(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
