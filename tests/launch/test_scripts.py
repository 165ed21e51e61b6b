"""What all scripts of launch/ have in common: shellcheck and ``--dry-run``."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
SOURCED = {"environment.sh", "dry_run.sh"}


def dry_run(script, *arguments, **environment):
    """The commands that a dry run prints, split into words."""
    done = subprocess.run(
        ["bash", str(LAUNCH / script), "--dry-run", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [words for line in done.stdout.splitlines() if (words := shlex.split(line))]


def test_shellcheck_has_nothing_to_say():
    done = subprocess.run(
        [
            *(pathlib.Path(sys.executable).with_name("shellcheck"), "--external-sources"),
            *sorted(LAUNCH.iterdir()),
        ],
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", sorted({path.name for path in LAUNCH.iterdir()} - SOURCED))
def test_every_script_has_a_dry_run(script):
    text = (LAUNCH / script).read_text()
    assert "dry_run.sh" in text
    assert "--dry-run" in text.partition("\nset -euo pipefail\n")[0], "the header says so"


def test_gpus_are_shared_out():
    flags = ("--config=x", "--workdir=y")
    environment = {"PYTHON": "python", "PORT": "1", "CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    commands = dry_run("local.sh", "2", *flags, **environment)
    assert [words[:2] for words in commands] == [
        ["env", "CUDA_VISIBLE_DEVICES=4,5"],
        ["env", "CUDA_VISIBLE_DEVICES=6,7"],
    ]
    commands = dry_run("local.sh", "3", *flags, **environment)
    assert [words[0] for words in commands] == ["python"] * 3


def test_the_dry_run_of_the_quick_start(tmp_path):
    first, *others = dry_run("quickstart.sh", str(tmp_path / "run"))[:5]
    python = str(LAUNCH.parent / ".venv/bin/python")
    assert first == [
        *(python, "-m", "fgmm.main", "--config=configs/quickstart.py"),
        f"--workdir={tmp_path}/run",
    ]
    assert [words[2] for words in others] == [
        "fgmm.eval.retrieval",
        "fgmm.eval.linear_probe",
        "fgmm.eval.pointing_game",
        "fgmm.report.build",
    ]
    assert not list(tmp_path.iterdir())


def test_the_dry_run_of_the_checks():
    commands = dry_run("test.sh", "tests/losses", TEST_PROCESSES="3")
    assert [words[1:3] for words in commands] == [["-m", "ruff"]] * 2 + [["-m", "pytest"]]
    assert commands[-1][3:] == ["--numprocesses=3", "--dist=worksteal", "tests/losses"]


def test_the_dry_run_of_the_study(tmp_path):
    study, page = dry_run("study.sh", "--short", str(tmp_path / "runs"), FINE="logsumexp")
    config = "configs/study/narrated_shapes.py:part=short,fine=logsumexp"
    assert study[1:] == [*("-m", "fgmm.study", f"--config={config}", f"--output={tmp_path}/runs")]
    assert page[1:] == [
        *("-m", "fgmm.study.page", f"--results={tmp_path}/runs/results"),
        f"--output={tmp_path}/runs/page.md",
    ]
    study, _ = dry_run("study.sh", "--select=arm=softmax", CONFIG="configs/study/x.py")
    assert study[3:] == [
        "--config=configs/study/x.py",
        f"--output={pathlib.Path.cwd()}/runs/study",
        "--select=arm=softmax",
    ]
    assert not list(tmp_path.iterdir())


def test_the_dry_run_of_the_trial_of_slurm():
    commands = dry_run("try_slurm.sh", STEPS="7")
    assert commands[0] == ["apt-get", "update", "-q"]
    assert commands[-1][:3] == ["sbatch", "--parsable", "--ntasks-per-node=2"]
    assert "--config.steps=7" in commands[-1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["quickstart.sh", "--help"], r"use: bash launch/quickstart\.sh \[--dry-run\] \[DIR\]"),
        (["quickstart.sh", "out", "--dry-run"], r"use: bash launch/quickstart\.sh"),
        (["corpora.sh"], r"use: bash launch/corpora\.sh \[--dry-run\] DATA \[DIR\]"),
        (["corpora.sh", "--dry-run", "nowhere/data"], "DATA=nowhere/data is no folder"),
    ],
)
def test_wrong_arguments_are_one_line(command, said):
    script, *arguments = command
    done = subprocess.run(
        ["bash", str(LAUNCH / script), *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {said}.*\n", done.stderr)
    assert not done.stdout
