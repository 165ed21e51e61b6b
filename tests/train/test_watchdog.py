import os
import subprocess
import sys

import pytest

from fgmm.train.watchdog import Watchdog
from tests import compilation


def run(program, **options):
    return subprocess.run(
        [sys.executable, "-c", "import time\nfrom fgmm.train.watchdog import Watchdog\n" + program],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_silence_ends_the_process_with_every_stack(repository):
    program = (
        "import threading\n"
        "def waits_for_ever():\n    time.sleep(100)\n"
        "threading.Thread(target=waits_for_ever, daemon=True).start()\n"
        "def also_waits():\n    time.sleep(100)\n"
        "with Watchdog(0.5):\n    also_waits()\n"
    )
    done = run(program, cwd=repository)
    assert done.returncode == 1
    assert "waits_for_ever" in done.stderr
    assert "also_waits" in done.stderr


def test_signs_of_life_keep_it_going_and_the_end_is_the_end(repository):
    program = (
        "with Watchdog(1.0) as watchdog:\n"
        "    for _ in range(8):\n        time.sleep(0.2)\n        watchdog.alive()\n"
        "time.sleep(1.5)\nprint('done')"
    )
    done = run(program, cwd=repository)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_without_a_limit_nothing_is_armed():
    with Watchdog(0.0) as watchdog:
        watchdog.alive()


@pytest.mark.long
def test_training_that_stands_still_ends_and_goes_on_from_its_checkpoint(repository, tmp_path):
    command = [
        *(sys.executable, "-m", "fgmm.main", "--config=tests/train/tiny.py"),
        *(f"--workdir={tmp_path}", "--config.steps=12", "--config.checkpoint.every_steps=2"),
        "--config.data.source.name=tests.train.stuck_source",
        *("--config.evals.retrieval.every=0", "--config.watchdog_seconds=60"),
    ]

    def train(**variables):
        return subprocess.run(
            command,
            cwd=repository,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": compilation.FLAGS, **variables},
            capture_output=True,
            text=True,
            timeout=180,
        )

    # 8 batches of 8 clips, of which the prefetch holds some.
    stuck = train(STUCK_AFTER="64")
    assert stuck.returncode == 1, stuck.stdout + stuck.stderr
    assert "Timeout (0:01:00)!" in stuck.stderr
    assert "in never_returns" in stuck.stderr
    assert "in until_done" in stuck.stderr
    again = train()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "continuing from step" in again.stdout + again.stderr
