"""What a result says of its origin."""

import json
import os
import re
import shutil
import subprocess
import sys

from fgmm import provenance


def test_a_process(repository):
    origin = provenance.here()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True
    ).stdout.strip()
    assert origin["commit"].removesuffix("+changes") == head[:12]
    assert origin["devices"] == "8 x cpu"
    assert re.fullmatch(r"\d+ cores of .+", origin["cpu"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", origin["date"])


def test_a_system_that_does_not_say_which_cores_a_process_may_use(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert provenance.here()["cpu"].startswith(f"{os.cpu_count()} cores of ")


def test_changed_files_are_not_passed_off_as_a_commit(repository, tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository), str(clone)], check=True)
    # The clone has what is committed; the code under test may be newer.
    for name in ("provenance.py", "__init__.py"):
        shutil.copy(repository / "fgmm" / name, clone / "fgmm" / name)
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, "commit", "-qm", "x", "--allow-empty"], cwd=clone, check=True)
    command = [sys.executable, "-c", "from fgmm import provenance; print(provenance.commit())"]

    def commit(cwd):
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True).stdout.strip()

    assert re.fullmatch("[0-9a-f]{12}", commit(clone))
    with open(clone / "README.md", "a") as file:
        file.write("more\n")
    assert commit(clone).endswith("+changes")
    # Installed below a checkout of something else, it is no commit of that.
    other = tmp_path / "other"
    (other / "site").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    shutil.copytree(clone / "fgmm", other / "site" / "fgmm")
    subprocess.run(["git", *identity, "commit", "-qm", "x", "--allow-empty"], cwd=other, check=True)
    assert commit(other / "site") == "None"


def test_a_run_with_an_interruption(tmp_path):
    assert provenance.of_run(tmp_path, 4, 8) == {
        "started": [],
        "examples_seen": 32,
        "train_seconds": 0,
    }
    with open(tmp_path / "metrics.jsonl", "w") as file:
        for step in range(1, 7):
            file.write(json.dumps({"step": step, "clips_per_second": 8.0 * step}) + "\n")
        file.write('{"step": 7, "clips')
    for step in (0, 3, 6):
        provenance.note_start(tmp_path, step)
    origin = provenance.of_run(tmp_path, 4, 8)
    assert [start["from_step"] for start in origin["started"]] == [0, 3]
    assert origin["started"][0]["devices"] == "8 x cpu"
    assert origin["train_seconds"] == round(1 / 2 + 1 / 3 + 1 / 4, 1)


def test_starts_in_words():
    start = {"commit": "b", "cpu": "2 cores of X", "devices": "1 x cpu", "jax": "1", "date": "d1"}
    assert provenance.in_words([start, start | {"commit": "a", "date": "d2"}]) == (
        "commit a, b; 2 cores of X, 1 x cpu, jax 1; d1, d2"
    )
