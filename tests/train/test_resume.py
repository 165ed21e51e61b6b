"""Real training processes, interrupted; what follows must be as if nothing had happened."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fgmm.train import speed
from tests import compilation

INTERVAL, STEPS = 10, 60


@pytest.fixture
def start(repository):
    """Starts ``python -m fgmm.main`` with the tiny config; kills what a failed test leaves."""
    started = []

    def start(workdir, *flags) -> subprocess.Popen:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": compilation.FLAGS}
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fgmm.main", "--config=tests/train/tiny.py"),
                *(f"--workdir={workdir}", *flags),
            ],
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def lines(workdir) -> list[dict]:
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole]


def numbers(workdir) -> list[dict]:
    """All metrics but the speed, which no run repeats."""
    return [{k: v for k, v in line.items() if k not in speed.KEYS} for line in lines(workdir)]


def wait_for_step(process, workdir, step) -> None:
    deadline = time.monotonic() + 120
    while not (now := lines(workdir)) or now[-1]["step"] < step:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"no step {step}: {process.communicate()[0]}")
        time.sleep(0.01)


def finish(process) -> str:
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return tmp_path_factory.mktemp("uninterrupted")


def reference(start, uninterrupted) -> list[dict]:
    if not lines(uninterrupted):
        finish(start(uninterrupted))
    return numbers(uninterrupted)


def restored_step(output: str) -> int | None:
    found = re.search(r"continuing from step (\d+)", output)
    return int(found.group(1)) if found else None


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_asked_to_stop_it_saves_and_says_how_to_continue(number, start, uninterrupted, tmp_path):
    expected = reference(start, uninterrupted)
    process = start(tmp_path, "--profile=5:8")
    wait_for_step(process, tmp_path, 15)
    process.send_signal(number)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 128 + number, output
    stopped = lines(tmp_path)[-1]["step"]
    assert 15 <= stopped < STEPS
    assert f"{number.name}: stopped at step {stopped} of {STEPS}, saved" in output
    assert "start the same command again" in output
    assert restored_step(finish(start(tmp_path))) == stopped
    assert numbers(tmp_path) == expected
    # A trace of some steps is beside the numbers, which it has not changed.
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


@pytest.mark.long
def test_a_workdir_in_use_is_refused(start, tmp_path):
    first = start(tmp_path, "--config.steps=100000")
    wait_for_step(first, tmp_path, 1)
    second = start(tmp_path, "--config.steps=100000")
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f", pid {first.pid}): stop it or give another workdir" in output
    assert first.poll() is None


def test_a_workdir_of_another_config_is_refused(start, uninterrupted):
    expected = reference(start, uninterrupted)
    second = start(uninterrupted, "--config.optimizer.learning_rate=0.5")
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "optimizer.learning_rate: 0.004 -> 0.5" in output
    assert numbers(uninterrupted) == expected


def test_a_finished_run_is_left_alone(start, uninterrupted):
    expected = reference(start, uninterrupted)
    finish(start(uninterrupted))
    assert numbers(uninterrupted) == expected
