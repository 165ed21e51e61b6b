"""Steps on the device that is there, and how many devices are simulated."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# The flags of a call, whether devices are simulated, and how many at most.
CALLS = [
    ([], True, 8),
    (["--devices", "2,4"], True, 4),
    (["--devices=2"], True, 2),
    (["--device"], False, 8),
    (["--device=true"], False, 8),
    (["--device=false"], True, 8),
]


@pytest.fixture(scope="module")
def printed():
    """What a process prints of the program, without what a device machine may lack: grain, PyAV."""
    code = (
        "import sys; sys.modules.update(grain=None, av=None)\n"
        "from benchmarks import scaling as s\n"
        "e = s.experiment_of(s.SMALL, batch=2, frames=4, size=32)\n"
        "print(sorted(s.random_batch(e, 2)))\n"
        f"for flags, *_ in {CALLS}:\n"
        "    sys.argv = ['scaling.py', *flags]\n"
        "    print((s._simulates(), s._most_devices()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [ast.literal_eval(line) for line in ran.stdout.splitlines()]


def test_a_step_is_timed_without_reading_or_decoding(printed):
    assert "video_mask" in printed[0]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_devices_are_simulated_as_flags_say(printed, number):
    assert printed[1 + number] == CALLS[number][1:]
