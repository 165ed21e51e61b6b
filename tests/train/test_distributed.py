"""Real processes that train together, started as users start them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from fgmm.config import ConfigError
from fgmm.train import distributed
from tests import compilation


@pytest.fixture
def start(repository, tmp_path):
    """``start(N, workdir, *flags)`` runs launch/local.sh; ends what a failed test leaves."""
    started = []

    def start(processes, workdir, *flags):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": compilation.FLAGS}
        environment |= {"PYTHON": sys.executable, "LOGS": str(tmp_path)}
        process = subprocess.Popen(
            [
                *("bash", "launch/local.sh", str(processes)),
                *("--config=tests/train/tiny.py", f"--workdir={workdir}", *flags),
            ],
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def lines(workdir):
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_step(process, workdir, step):
    deadline = time.monotonic() + 180
    while not (now := lines(workdir)) or now[-1]["step"] < step:
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise AssertionError(f"no step {step}: {process.communicate(timeout=60)[0]}")
        time.sleep(0.05)


def test_a_process_that_dies_takes_the_others_with_it(start, tmp_path):
    run = start(2, tmp_path / "run", "--config.steps=100000", "--config.evals.retrieval.every=0")
    wait_for_step(run, tmp_path / "run", 2)
    listed = subprocess.run(
        ["pgrep", "-f", f"workdir={tmp_path}/run.*--process_index=1"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    pids = [int(pid) for pid in listed.stdout.split()]
    assert pids, "process 1 was not found"
    began = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGKILL, output
    assert "process 1 of 2 ended with code 137; ending the others" in output
    assert time.monotonic() - began < 30


def test_processes_that_differ_are_told(repository, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": compilation.FLAGS}
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "fgmm.main", "--config=tests/train/tiny.py"),
                *(f"--workdir={tmp_path}", f"--config.seed={index}"),
                *(f"--coordinator_address=127.0.0.1:{port}", "--process_count=2"),
                f"--process_index={index}",
            ],
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, 2]
    assert "config.seed is 1 here and 0 on process 0" in outputs[0]
    assert not (tmp_path / "checkpoints").exists()


def test_the_dry_run_prints_the_commands(repository):
    dry = subprocess.run(
        ["bash", "launch/local.sh", "--dry-run", "2", "--config=configs/quickstart.py"],
        cwd=repository,
        env={**os.environ, "PYTHON": "python", "PORT": "1234"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert dry.returncode == 0
    commands = dry.stdout.splitlines()
    assert len(commands) == 2
    for index, command in enumerate(commands):
        assert command.split() == [
            *("python", "-m", "fgmm.main", "--config=configs/quickstart.py"),
            *("--coordinator_address=127.0.0.1:1234", "--process_count=2"),
            f"--process_index={index}",
        ]
    wrong = subprocess.run(
        ["bash", "launch/local.sh", "none"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert wrong.returncode == 2
    assert "N must be a whole number from 1, not 'none'" in wrong.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("here:1", 4, 2), "process 2 of 4 did not meet the others at here:1 within 5 s: too late"),
        ((), "the processes that the environment names did not meet within 5 s: too late"),
        (("here:1", 4, 4), r"--process_index=4 must be from 0 to 3 \(--process_count=4\)"),
    ],
)
def test_processes_that_do_not_meet_are_named(given, message, monkeypatch):
    def never(*arguments, **options):
        raise RuntimeError("too late\nfor all")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", never)
    monkeypatch.setattr(distributed.jax.config, "update", lambda *given: None)
    monkeypatch.setattr(distributed, "_meeting_timeout", distributed.MEETING_TIMEOUT)
    with pytest.raises(ConfigError, match=f"^{message}$"):
        distributed.initialise(*given, meeting_timeout=5)


@pytest.mark.long
def test_asked_to_stop_all_save_and_say_so(start, tmp_path):
    run = start(2, tmp_path / "run", "--config.steps=100000", "--config.evals.retrieval.every=0")
    wait_for_step(run, tmp_path / "run", 2)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM, output
    stopped = lines(tmp_path / "run")[-1]["step"]
    assert f"SIGTERM: stopped at step {stopped} of 100000, saved" in output
    assert "ended with code" not in output
    assert (tmp_path / "run" / "checkpoints" / str(stopped)).is_dir()
