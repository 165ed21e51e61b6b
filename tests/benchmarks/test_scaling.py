"""Steps on the device that is there."""

import subprocess
import sys


def test_a_step_is_timed_without_reading_or_decoding(repository):
    """A device machine may have neither grain nor PyAV."""
    code = (
        "import sys; sys.modules.update(grain=None, av=None);"
        "from benchmarks import scaling as s;"
        "e = s.experiment_of(s.SMALL, batch=2, frames=4, size=32);"
        "print(sorted(s.random_batch(e, 2)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "video_mask" in ran.stdout
