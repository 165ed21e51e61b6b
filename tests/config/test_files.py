"""Configs by name, and the list of programs."""

import subprocess
import sys

import pytest

from fgmm.config import ConfigError, files


def test_a_name_is_a_file_of_the_checkout(repository):
    assert files.resolved("quickstart") == str(repository / "configs" / "quickstart.py")
    path = repository / "configs" / "eval" / "zero_shot.py"
    assert files.resolved("eval/zero_shot:corpus=motion") == f"{path}:corpus=motion"


def test_a_path_stays():
    assert files.resolved("mine/quickstart.py:noise=0.2") == "mine/quickstart.py:noise=0.2"


def test_a_name_that_is_unknown_is_told_what_there_is():
    with pytest.raises(ConfigError, match=r"--config=quick is unknown; .* eval/linear_probe"):
        files.resolved("quick:noise=0.2")


def test_every_program_has_a_line(tmp_path):
    command = [sys.executable, "-m", "fgmm"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    described = dict(
        line.removeprefix("  python -m ").split(None, 1)
        for line in result.stdout.splitlines()
        if line.startswith("  python -m ")
    )
    assert {"fgmm.main", "fgmm.eval.retrieval", "fgmm.data.prepare"} <= set(described)
    assert all(described.values())
