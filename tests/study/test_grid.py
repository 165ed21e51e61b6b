"""Grids, expanded and selected."""

import dataclasses

import ml_collections
import pytest

from fgmm.config import ConfigError
from fgmm.study import grid, outcome, programs
from tests.study.small import DEFAULTS, FAKE, study


def read(tmp_path, **changes):
    return grid.read(ml_collections.ConfigDict(study(tmp_path, **changes)))


def test_a_grid_is_a_product(tmp_path):
    found = read(tmp_path)
    assert [cell.name for cell in found.run.cells] == [
        "coarse_arm-examples32-seed0",
        "coarse_arm-examples32-seed1",
        "fine_arm-examples32-seed0",
        "fine_arm-examples32-seed1",
    ]
    assert found.run.cells[0].coordinates == {
        **{"pairs": "video_text", "batch": 4, "noise": 0.5},
        **{"arm": "coarse_arm", "examples": 32, "seed": 0},
    }
    assert [cell.name for cell in found.tune.cells[:2]] == [
        "coarse_arm-rate0.002-examples32-seed100",
        "coarse_arm-examples32-seed100",
    ]
    assert len(found.tune.cells) == 6


def test_updates_are_examples_of_a_batch_and_no_cell_comes_twice(tmp_path):
    grids = [
        {"arm": "fine_arm", "updates": 8, "batch": (4, 8), "seed": 0},
        {"arm": "fine_arm", "examples": 32, "seed": (0, 1)},
    ]
    changed = study(tmp_path, run={"grids": grids, "evaluations": ()})
    del changed["tune"]
    cells = grid.read(ml_collections.ConfigDict(changed)).run.cells
    assert [cell.name for cell in cells] == [
        "fine_arm-examples32-seed0",
        "fine_arm-batch8-examples64-seed0",
        "fine_arm-examples32-seed1",
    ]


def test_a_path_among_the_values_is_part_of_the_name(tmp_path):
    grids = [{"arm": "fine_arm", "examples": 32, "pairs": "runs/pairs", "seed": 0}]
    changed = study(tmp_path, run={"grids": grids, "evaluations": ()})
    del changed["tune"]
    cells = grid.read(ml_collections.ConfigDict(changed)).run.cells
    assert [cell.name for cell in cells] == ["fine_arm-runs_pairs-examples32-seed0"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"arm": "fine_arm", "examples": 8, "seed": 0, "size": 1}, "axis 'size' is unknown"),
        ({"arm": "fine_arm", "examples": 8, "seed": 0, "rate": 0.1}, "axis 'rate' is tuned"),
        ({"arm": "other", "examples": 8, "seed": 0}, "arm='other' is unknown; allowed: coarse_arm"),
        ({"arm": "fine_arm", "examples": 8}, "no 'seed'"),
        ({"arm": "fine_arm", "seed": 0}, "either 'examples' or 'updates'"),
        (
            {"arm": "fine_arm", "examples": 8, "seed": 0, "batch": 8},
            "nothing is tuned for arm=fine_arm, batch=8",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, run, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, run={"grids": [run], "evaluations": ()})


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (
            [{"words": "near"}, {"pictures": "near"}],
            "run: the cells with pictures='own', words='near' and with pictures='near', words='own'"
            " have one name, 'fine_arm-near-examples32-seed0'",
        ),
        ([{"words": ("p/q", "p_q")}], "with words='p/q' and with words='p_q' have one name"),
    ],
)
def test_two_cells_with_one_name(tmp_path, grids, message):
    whole = [{"arm": "fine_arm", "examples": 32, "seed": 0, **grid} for grid in grids]
    with pytest.raises(ConfigError, match=message):
        read(
            tmp_path,
            defaults=DEFAULTS | {"words": "own", "pictures": "own"},
            run={"grids": whole, "evaluations": ()},
        )


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"by": ("arm", "batsh")}, "tune.by: 'batsh' is none of .* there: .*batch, .*arm, "),
        ({"by": ("arm", "rate")}, "tune.by: 'rate' is none of"),
        ({"chosen": ("rate", "ratte")}, "tune.chosen: 'ratte' is none of .* there: .*rate"),
        ({"chosen": ("examples",)}, "tune.chosen: 'examples' is none of"),
    ],
)
def test_wrong_axes_of_tuning(tmp_path, tune, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, tune=study(tmp_path)["tune"] | tune)


def test_an_unknown_key_and_a_wrong_family(tmp_path):
    with pytest.raises(ConfigError, match="'grid' is unknown"):
        read(tmp_path, run={"grid": [], "grids": [], "evaluations": ()})
    arms = {"coarse_arm": {"title": "c", "family": "rough", "score": "fine"}}
    with pytest.raises(ConfigError, match=r"arms\.coarse_arm.*family"):
        read(tmp_path, arms=arms)


def test_a_selection_takes_the_tuning_that_it_needs(tmp_path):
    tune, run = grid.select(read(tmp_path), "arm=fine_arm,seed=1")
    assert [cell.name for cell in run] == ["fine_arm-examples32-seed1"]
    assert {cell.coordinates["arm"] for cell in tune} == {"fine_arm"}
    assert len(tune) == 3


def test_a_selection_of_one_stage(tmp_path):
    found = read(tmp_path)
    assert grid.select(found, "stage=run,seed=0+1") == ([], list(found.run.cells))
    tune, run = grid.select(found, "stage=tune,rate=0.002+0.008")
    assert (len(tune), run) == (4, [])
    assert grid.select(found, "") == (list(found.tune.cells), list(found.run.cells))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms=fine_arm", "'arms' is no axis; allowed: stage, .*arm"),
        ("arm=fine", "arm=fine: no cell"),
        ("arm", "'arm' is not of the form"),
        ("stage=train", "stage='train' is unknown"),
    ],
)
def test_a_wrong_selection(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        grid.select(read(tmp_path), text)


def test_the_programs_of_a_cell(tmp_path):
    found = read(
        tmp_path, run={**study(tmp_path)["run"], "evaluations": (("retrieval", ""), ("probe", "p"))}
    )
    cell = found.run.cells[1]
    training, retrieval, probe = programs.of_cell(found, found.run, cell, tmp_path)
    assert training == [
        *(FAKE, f"--workdir={tmp_path}"),
        f"--config={tmp_path}/experiment.py:"
        "batch=4,noise=0.5,pairs=video_text,arm=coarse_arm,examples=32",
        *("--config.seed=1", "--config.progress=False"),
    ]
    assert retrieval == ["fgmm.eval.retrieval", f"--workdir={tmp_path}", "--by_query"]
    assert probe == ["fgmm.eval.probe", f"--workdir={tmp_path}", "--config=p", "--by_query"]


def test_one_thread_a_cell():
    environment = programs.environment({"XLA_FLAGS": "--other=1", "HOME": "h"})
    assert environment["XLA_FLAGS"] == "--other=1 --xla_cpu_multi_thread_eigen=false"
    assert (environment["OMP_NUM_THREADS"], environment["HOME"]) == ("1", "h")
    flags = "--xla_cpu_multi_thread_eigen=true"
    assert programs.environment({"XLA_FLAGS": flags})["XLA_FLAGS"] == flags


@pytest.mark.parametrize(("chosen", "done"), [(1.0, True), (2.0, False)])
def test_an_axis_that_was_added_has_its_default_in_earlier_results(tmp_path, chosen, done):
    earlier = read(tmp_path).run.cells[0]
    coordinates = earlier.coordinates | {"rate": 0.004, "temperature_times": 1.0}
    outcome.write(tmp_path / "cell.json", {"coordinates": coordinates, "judged": {}})
    tune = study(tmp_path)["tune"] | {"chosen": ("rate", "temperature_times", "added")}
    cell = read(tmp_path, defaults=DEFAULTS | {"added": 1.0}, tune=tune).run.cells[0]
    assert cell.name == earlier.name
    assert not outcome.is_done(cell, tmp_path / "cell.json"), "nothing is chosen yet"
    values = cell.coordinates | {"rate": 0.004, "temperature_times": 1.0, "added": chosen}
    whole = dataclasses.replace(cell, coordinates=values)
    assert outcome.is_done(whole, tmp_path / "cell.json") is done
