"""What tuning chooses from results that are made up."""

import ml_collections
import pytest

from fgmm.study import grid, tuning
from tests.study.small import DEFAULTS, result, study


@pytest.mark.parametrize(
    ("words", "at_edge"),
    [((1, 2, 3), ["words"]), (("a", "b", "c"), []), ((1, "", "c"), [])],
)
def test_only_numbers_have_an_edge(tmp_path, words, at_edge):
    tune = study(tmp_path)["tune"] | {
        "grids": [{"arm": "fine_arm", "examples": 32, "words": words, "seed": 100}],
        "chosen": ("words",),
    }
    run = {"grids": [{"arm": "fine_arm", "examples": 32, "seed": 0}], "evaluations": ()}
    config = study(tmp_path, defaults=DEFAULTS | {"words": 1}, tune=tune, run=run)
    stage = grid.read(ml_collections.ConfigDict(config)).tune
    results = {
        cell.name: result("fine_arm", "fine", 100, 0.5 + 0.1 * number)
        for number, cell in enumerate(stage.cells)
    }
    (choice,) = tuning.choose(stage, results)
    assert choice["chosen"] == {"words": words[-1]}
    assert choice["at_edge"] == at_edge
