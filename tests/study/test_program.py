"""The program on a study whose trainer is fake: what is done, killed, failed and chosen."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.study.small import DEFAULTS, study

REPOSITORY = pathlib.Path(__file__).parents[2]


class Runner:
    """The program in a folder of its own, with a plan of what goes wrong."""

    def __init__(self, folder):
        self.output, self._plan, self._config = folder / "out", folder / "plan", folder / "study.py"
        self.plan()
        self.write(study(folder))

    def write(self, content):
        self._config.write_text(
            "import ml_collections\n\n\ndef get_config(argument=None):\n"
            f"    return ml_collections.ConfigDict({content!r})\n"
        )

    def plan(self, sleep=0.0, failing=(), diverging=()):
        plan = {"sleep": sleep, "failing": failing, "diverging": diverging}
        self._plan.write_text(json.dumps(plan))

    def start(self, *flags):
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "fgmm.study", f"--config={self._config}"),
                *(f"--output={self.output}", "--jobs=2", *flags),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "FAKE_TRAINER": str(self._plan)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *flags):
        process = self.start(*flags)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def results(self, stage):
        folder = self.output / "results" / stage
        return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}

    def wait_for(self, pattern):
        """Until a file is there and something is in it."""
        deadline = time.monotonic() + 60
        while not (found := [p for p in self.output.glob(pattern) if p.stat().st_size]):
            assert time.monotonic() < deadline, pattern
            time.sleep(0.02)
        return found


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def test_it_tunes_then_runs_and_does_nothing_twice(runner):
    page = runner.output / "page.md"
    code, _, err = runner.run(f"--page={page}")
    assert code == 0, err
    assert "tune: 6 of 6 cells done" in err
    assert "run: 4 of 4 cells done, 0 running, 0 failed, about 0 min left" in err
    (choice, _) = json.loads((runner.output / "results/choice.json").read_text())["choices"]
    assert choice["at"] == ["coarse_arm", 4]
    assert choice["chosen"] == {"rate": 0.004, "temperature_times": 1.0}
    assert choice["tried"] == [[0.002, 1.0, 0.3], [0.004, 1.0, 0.4], [0.008, 1.0, 0.2]]
    results = runner.results("run")
    assert len(results) == 4
    result = results["fine_arm-examples32-seed1"]
    assert result["coordinates"]["rate"] == 0.004
    assert result["defaults"] == DEFAULTS
    assert (result["updates"], result["examples"]) == (8, 32)
    assert result["flops"] == 8 * 4 * 1000
    assert result["metrics"]["retrieval/fine/text_to_video/r@10"] == pytest.approx(0.6)
    assert result["by_query"]["retrieval/fine/text_to_video/rank"] == [1] * 12 + [11] * 8
    assert result["curve"]["step"] == [2, 4, 6, 8]
    assert result["curve"]["seconds"] == [0.5, 1.5, 2.5, 3.5]
    assert result["trained"]["started"][0]["commit"] == "abc"
    assert result["differences"]["data.source.name"] == "narrated_shapes"
    assert "batch_size" not in result["differences"], "it is that of the config file"
    assert runner.results("tune")["fine_arm-examples32-seed100"]["by_query"] == {}
    assert "| fine " in page.read_text()
    # Work is gone, so a second training would leave new files.
    assert not list(runner.output.glob("work/*/*"))
    before = {path: path.stat().st_mtime_ns for path in runner.output.rglob("results/*/*.json")}
    code, _, err = runner.run("--keep")
    assert code == 0, err
    assert not list(runner.output.glob("work/*/*"))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    code, out, _ = runner.run("--dry_run")
    assert code == 0
    assert out.splitlines()[-1].startswith("6 cells to tune, 4 to run, 0 of them left: about 0 min")
    assert "run fine_arm-examples32-seed1 (done)" in out


def test_a_failing_cell_does_not_stop_the_others(runner):
    runner.plan(failing=["coarse_arm"])
    code, _, err = runner.run()
    assert code == 1
    assert "failed: coarse_arm-examples32-seed100, see " in err
    assert "coarse_arm-examples32-seed0 (not tuned)" in err
    assert list(runner.results("run")) == [f"fine_arm-examples32-seed{seed}" for seed in (0, 1)]
    log = runner.output / "work/tune/coarse_arm-examples32-seed100.log"
    assert "error: this arm always fails" in log.read_text()
    runner.plan()
    code, _, err = runner.run()
    assert code == 0, err
    assert len(runner.results("run")) == 4


def test_a_choice_without_a_failed_cell_holds_in_later_commands(runner):
    runner.plan(diverging=[0.008])
    part = "arm=fine_arm,seed=0"
    code, _, err = runner.run(f"--select={part}")
    assert code == 1
    assert "1 cells failed: fine_arm-rate0.008-examples32-seed100" in err
    choice = runner.output / "results/choice.json"
    (before,) = json.loads(choice.read_text())["choices"]
    assert before["tried"][2] == [0.008, 1.0, None]
    code, out, _ = runner.run(f"--select={part}", "--dry_run")
    assert "run fine_arm-examples32-seed0 (done)" in out
    code, _, err = runner.run("--select=stage=run,arm=fine_arm")
    assert code == 0, err
    assert list(runner.results("run")) == [f"fine_arm-examples32-seed{seed}" for seed in (0, 1)]
    assert json.loads(choice.read_text())["choices"] == [before]


def test_a_kill_in_the_middle_and_a_restart(runner):
    runner.plan(sleep=60)
    process = runner.start("--select=arm=fine_arm,seed=0")
    started = runner.wait_for("work/tune/*/starts")
    process.kill()
    process.wait()
    (line,) = started[0].read_text().splitlines()
    child, core = line.split(" ", 1)
    assert len(json.loads(core)) == 1, "a cell has one core"
    deadline = time.monotonic() + 20
    while pathlib.Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "the trainer outlives the study"
        time.sleep(0.05)
    assert runner.results("tune") == {}
    runner.plan()
    code, _, err = runner.run("--select=arm=fine_arm,seed=0")
    assert code == 0, err
    assert list(runner.results("run")) == ["fine_arm-examples32-seed0"]
    assert len(runner.results("tune")) == 3


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_programs_too(runner, number, expected):
    runner.plan(sleep=60)
    process = runner.start("--select=stage=tune,arm=fine_arm,rate=0.004")
    (starts,) = runner.wait_for("work/tune/*/starts")
    child = starts.read_text().split()[0]
    process.send_signal(number)
    _, err = process.communicate(timeout=40)
    assert process.returncode == expected
    assert not pathlib.Path(f"/proc/{child}").exists()
    assert "goes on from here" in err


def test_two_commands_do_not_share_a_folder(runner):
    runner.plan(sleep=60)
    process = runner.start("--select=arm=fine_arm")
    runner.wait_for("work/tune/*/starts")
    code, out, err = runner.run("--select=arm=coarse_arm")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        rf"error: --output={runner.output} is in use by a live process "
        rf"\(.+, pid {process.pid}\): stop it or give another output\n",
        err,
    )
    assert runner.run("--dry_run")[0] == 0
    process.kill()
    process.communicate()
    runner.plan()
    code, _, err = runner.run("--select=arm=fine_arm,seed=0")
    assert code == 0, err


def test_a_new_choice_runs_its_cells_anew(runner, tmp_path):
    assert runner.run("--select=arm=fine_arm,seed=0")[0] == 0
    changed = study(tmp_path)
    changed["tune"]["grids"][0]["rate"] = (0.001, 0.002, 0.003)
    runner.write(changed)
    assert runner.run("--select=arm=fine_arm,seed=0")[0] == 0
    (result,) = runner.results("run").values()
    assert result["coordinates"]["rate"] == 0.003
    (choice,) = json.loads((runner.output / "results/choice.json").read_text())["choices"]
    assert choice["at_edge"] == ["rate"]


def test_a_wrong_command_is_one_line(runner):
    code, _, err = runner.run("--select=arm=nobody")
    assert code == 2
    assert err == "error: --select=arm=nobody: no cell of the study fits; see --dry_run\n"


def test_results_are_not_written_to_remote_storage(repository):
    config = "--config=configs/study/narrated_shapes.py:part=short"
    command = [sys.executable, "-m", "fgmm.study", config, "--output=gs://bucket/x", "--dry_run"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(r"error: --output=gs:/+bucket/x: gs:// is remote storage.*\n", done.stderr)
