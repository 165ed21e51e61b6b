"""The studies in ``configs/study`` expand to cells that their experiments' configs take."""

import importlib
import pathlib

import pytest

from fgmm.config import ConfigError
from fgmm.study import grid, outcome, programs

REPOSITORY = pathlib.Path(__file__).parents[2]
STUDIES = {
    path.stem: importlib.import_module(f"configs.study.{path.stem}")
    for path in sorted((REPOSITORY / "configs" / "study").glob("[!_]*.py"))
}
PARTS = [
    (name, part)
    for name, study in STUDIES.items()
    for part in (*study.PARTS, *(["short"] if hasattr(study, "SHORT") else []))
]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_cell_has_a_config(name, part):
    study = grid.read(STUDIES[name].get_config(f"part={part}"))
    experiment = importlib.import_module(f"configs.{pathlib.Path(study.experiment).stem}")
    tune = study.tune.cells if study.tune else ()
    chosen = dict.fromkeys(study.tune.chosen, 1.0) if study.tune else {}
    seen = set()
    for cell in (*tune, *study.run.cells):
        values = {**chosen, **cell.coordinates}
        # Each value on each axis is tried once.
        new = {pair for pair in values.items() if pair[0] != "seed"} - seen
        if not new:
            continue
        seen |= new
        whole = grid.Cell(cell.stage, cell.name, values)
        stage = study.tune if cell.stage == "tune" else study.run
        training = programs.of_cell(study, stage, whole, pathlib.Path("run"))[0]
        (flag,) = [argument for argument in training if argument.startswith("--config=")]
        config = experiment.get_config(flag.partition(":")[2])
        assert config.batch_size == values["batch"]
        assert config.steps == max(1, values["examples"] // values["batch"])
        assert config.objective.score == study.arms[values["arm"]]["score"]
    assert len(seen) > 2


@pytest.mark.parametrize("name", ["flickr8k_features", "flickr8k_slideshow"])
def test_no_training_is_tried_twice(name):
    """Some arms have no coarse term, and others no attention."""
    study = grid.read(STUDIES[name].get_config("arms=all"))
    experiment = importlib.import_module(f"configs.{study.experiment}")
    tried: dict[tuple, list[str]] = {}
    for cell in study.tune.cells:
        training = programs.of_cell(study, study.tune, cell, pathlib.Path("run"))[0]
        (flag,) = [argument for argument in training if argument.startswith("--config=")]
        config = experiment.get_config(flag.partition(":")[2])
        tried.setdefault(cell.at(study.tune.by), []).append(str(config))
    assert len({len(found) for found in tried.values()}) == 1
    for at, found in tried.items():
        assert len(set(found)) == len(found), at


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize(
    ("argument", "message"),
    [("part=none", "part='none' is unknown"), ("arms=none", "arm 'none' is unknown")],
)
def test_wrong_variants_are_named(name, argument, message):
    with pytest.raises(ConfigError, match=message):
        STUDIES[name].get_config(argument)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("narrated_shapes", "tuned_on=video", "'video' is unknown; allowed: video_text"),
        ("flickr8k_features", "arms=coarse_bag", "'coarse_bag' is unknown with captions=1"),
        ("flickr8k_features", "captions=5+x", "captions='5[+]x' must be whole numbers above 0"),
        ("flickr8k_slideshow", "captions=0", "captions='?0'? must be whole numbers above 0"),
        (
            "storybook_features",
            "part=own,arms=coarse_bag",
            "'coarse_bag' is unknown with captions=1",
        ),
    ],
)
def test_wrong_variants_of_one_study_are_named(name, argument, message):
    with pytest.raises(ConfigError, match=message):
        STUDIES[name].get_config(argument)


def test_the_experiment_is_found_by_its_name_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study = grid.read(STUDIES["narrated_shapes"].get_config("part=screen"))
    assert outcome.base_config(study.experiment)["data.height"] == 48
    with pytest.raises(ConfigError, match=r"experiment=shapes is unknown; .*narrated_shapes"):
        outcome.base_config("shapes")
