"""The packages themselves, without a network; they are no part of the extra ``test``."""

import json
import os
import subprocess
import sys

import pytest

from fgmm.train import log_sinks
from fgmm.train.loggers import Run

pytestmark = pytest.mark.long

# trackio chooses its folder when it is imported.
LOG_AND_READ = """
import json, pathlib, sys
from fgmm.train import log_sinks
from fgmm.train.loggers import Run

first, last = map(int, sys.argv[2:])
loggers = log_sinks.from_config({"loggers": {"x": {"name": "trackio"}}})
sinks = log_sinks.LogSinks(loggers, Run(pathlib.Path(sys.argv[1]), {"seed": 7}, first - 1))
for step in range(first, last):
    sinks.write(step, {"loss": 1 / step})
sinks.close()
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("fgmm", "my_run")
print(json.dumps([[log["step"], log["loss"]] for log in logs if "loss" in log]))
"""


def test_trackio_keeps_every_step_and_goes_on(tmp_path):
    pytest.importorskip("trackio")
    workdir = tmp_path / "my_run"
    workdir.mkdir()
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
    for first, last in ((1, 3), (3, 5)):
        command = [sys.executable, "-c", LOG_AND_READ, workdir, str(first), str(last)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        assert "failed" not in ran.stdout
        # trackio says something when the process ends.
        (line,) = [line for line in ran.stdout.splitlines() if line.startswith("[[")]
        kept = json.loads(line)
        assert kept == [[step, 1 / step] for step in range(1, last)]


def test_wandb_keeps_a_run_for_later(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def log(mode, step):
        entry = {"name": "wandb", "mode": mode, "project": "shapes"}
        loggers = log_sinks.from_config({"loggers": {"x": entry}})
        sinks = log_sinks.LogSinks(loggers, Run(tmp_path, {"seed": 7}, step - 1))
        sinks.write(step, {"loss": 1 / step})
        sinks.close()

    log("offline", 1)
    log("offline", 2)
    identity = (tmp_path / "wandb" / "id").read_text()
    files = sorted((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert len(files) == 2
    assert b"loss" in files[0].read_bytes()
    # Without a key nothing can be sent, and the run does not mind.
    log("online", 3)
    assert "logger x failed and is left out from here on: " in capsys.readouterr().out
