import json

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.report import curves


def write(folder, lines):
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def points(line):
    return np.array([point.split(",") for point in line.points.split()], float)


def test_a_number_that_is_missing_is_nan_and_half_a_line_is_left_out(tmp_path):
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": None, "skipped": 1}]
    write(tmp_path, lines)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    series = curves.read(tmp_path)
    np.testing.assert_array_equal(series["step"], [1, 2])
    np.testing.assert_array_equal(series["loss"], [3.0, np.nan])
    np.testing.assert_array_equal(series["skipped"], [np.nan, 1])


def test_what_was_watched_stands_at_its_step(tmp_path):
    write(tmp_path, [{"step": step, "loss": 1.0} for step in (1, 2, 3)])
    (tmp_path / "watch").mkdir()
    watched = [{"step": step, "weights": "ema", "x/r@1": step / 10} for step in (3, 1, 9)]
    lines = "".join(json.dumps(line) + "\n" for line in watched)
    (tmp_path / "watch" / "x.jsonl").write_text(lines)
    series = curves.read(tmp_path)
    assert series.keys() == {"step", "loss", "x/r@1"}
    np.testing.assert_array_equal(series["x/r@1"], [0.1, np.nan, 0.3])


def test_a_loss_that_was_never_finite_has_no_panel(tmp_path):
    steps = np.arange(1.0, 4)
    assert curves.panels([{"step": steps, "loss": steps * np.nan}]) == {}


def test_a_folder_without_steps_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is no run that has trained: .*cannot be read"):
        curves.read(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="has no step yet"):
        curves.read(write(tmp_path, []))


def test_runs_share_the_axes_of_a_panel():
    steps = np.arange(1.0, 1001)
    runs = [
        {"step": steps, "loss": 10 - steps / 200},
        {"step": steps[:500], "loss": np.full(500, 9.0)},
    ]
    (panel,) = curves.panels(runs)["Loss, and by term"]
    first, second = (points(line) for line in panel.lines)
    assert (panel.lines[0].count, panel.lines[1].count) == (240, 240)
    assert panel.lines[0].last == "5.007"
    # At step 500 one has 7.5 and the other 9; half of the way to the right.
    right = curves.WIDTH - curves.RIGHT
    assert first[-1, 0] == pytest.approx(right, abs=0.1)
    assert second[-1, 0] == pytest.approx((curves.LEFT + right) / 2, abs=0.5)
    at = np.abs(first[:, 0] - second[-1, 0]).argmin()
    ticks = {label: y for y, label in panel.y_ticks}
    scale = (ticks["6"] - ticks["8"]) / 2
    assert (first[at, 1] - second[-1, 1]) / scale == pytest.approx(1.5, abs=0.02)
    assert [label for _, label in panel.x_ticks] == ["0", "250", "500", "750", "1,000"]


def test_a_band_holds_the_range_and_a_constant_has_none():
    steps = np.arange(1.0, 481)
    runs = [{"step": steps, "loss": 2 + (-1.0) ** steps, "learning_rate": np.full(480, 0.1)}]
    panels = curves.panels(runs)
    ((line,),) = [panel.lines for panel in panels["Loss, and by term"]]
    band = np.array([point.split(",") for point in line.band.split()], float)
    assert len(band) == 480
    assert np.ptp(band[:, 1]) > 100
    np.testing.assert_allclose(np.ptp(points(line)[:, 1]), 0)
    (rate,) = panels["Optimizer and speed"]
    assert rate.lines[0].band == ""
    assert [label for _, label in rate.y_ticks] == ["0.05", "0.1", "0.15"]


def test_skipped_steps_are_added_up_and_evaluations_need_two_points():
    steps = np.arange(1.0, 5)
    few = np.array([np.nan, 0.2, np.nan, 0.4])
    run = {"step": steps, "loss": steps, "skipped": np.array([0.0, 1, 0, 1]), "r@1": few}
    panels = curves.panels([run | {"r@1_low": few - 0.1, "x": few, "x_low": few * np.nan}])
    (skipped,) = panels["Optimizer and speed"]
    assert skipped.lines[0].last == "2"
    assert [panel.key for panel in panels["Evaluations inside training"]] == ["r@1", "x"]
    once = {"step": steps, "loss": steps, "r@1": np.array([np.nan, 0.2, np.nan, np.nan])}
    assert "Evaluations inside training" not in curves.panels([once | {"r@1_low": once["r@1"]}])
