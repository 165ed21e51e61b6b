"""The parts that CONTRIBUTING.md shows are trained with, evaluated and drawn, as they stand."""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.eval import inside_training, pointing_game
from fgmm.experiment import build as experiments
from fgmm.report import alignment
from fgmm.train import loop
from tests.shrunken import shrunken

REPOSITORY = pathlib.Path(__file__).parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"\n`(my_lab/\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.S))
ENTRIES = re.findall(r"```python\n(config\..*?)```", PAGE, re.S)
DOTS = {"name": "my_lab.dots:Dots", "clips": 16}

# A term that says nothing of itself.
SILENT = """
import dataclasses
from fgmm.losses import Term
from my_lab.late_interaction import LateInteraction

@dataclasses.dataclass(frozen=True, kw_only=True)
class Silent(LateInteraction):
    attention, phrase_weights = Term.attention, Term.phrase_weights
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The folder that holds ``my_lab``, from which it can be imported."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "my_lab").mkdir()
    for path, text in {**FILES, "my_lab/silent.py": SILENT}.items():
        (folder / path).write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def config_of():
    """A shrunken quickstart without sound, and what the page adds to a config."""
    config = shrunken(quickstart.get_config(), steps=3)
    del config.model["audio"]
    config.model.spaces.joint.modalities = ("video", "text")
    config.objective.terms, config.evals = {}, {}
    config.checkpoint.best_metric = ""
    for entry in ENTRIES:
        exec(entry, {"config": config})
    config.evals.retrieval = {"name": "retrieval", "source": DOTS, "batch_size": 8}
    config.evals.pointing = {"name": "pointing_game", "source": DOTS, "batch_size": 8}
    return components.complete(config)


def test_the_page_shows_a_part_of_each_kind():
    assert len(FILES) == len(ENTRIES) == 4
    assert PAGE.count("```python") == 8


@pytest.fixture(scope="module")
def trained(lab):
    """The experiment, its state after three steps, what evaluations gave, and the workdir."""
    experiment = experiments.build(config_of())
    source = experiment.source(experiment.config.data.source, "data.source")
    evaluators = inside_training.from_config(experiment)
    with contextlib.redirect_stdout(io.StringIO()):
        state = loop.train(experiment, source, lab / "run", evaluators)
    return experiment, state, {name: evaluators[name].run(state) for name in evaluators}


def test_parts_from_elsewhere_are_trained_and_evaluated(trained):
    experiment, state, results = trained
    assert int(state.step) == 3
    before = jax.jit(experiment.init)(experiment.config.seed)
    encoder = [s.params["model"]["encoders_video"]["Conv_0"]["kernel"] for s in (before, state)]
    assert encoder[0].shape == (1, 4, 4, 3, 24)
    assert np.any(np.asarray(encoder[0]) != np.asarray(encoder[1]))
    assert results["spread"]["clips"] == 16
    assert 0 < results["spread"]["spread"] < 2
    assert results["retrieval"]["captions"] == 16
    assert 0 <= results["retrieval"]["fine/text_to_video/r@1"] <= 1
    # A quarter of the picture is the dot's, in every frame.
    assert results["pointing"]["chance/object/hit"] == 0.25
    assert 0 <= results["pointing"]["attention/object/hit"] <= 1


def test_an_evaluation_from_elsewhere_is_a_program(trained, lab):
    run = subprocess.run(
        [sys.executable, "-m", "my_lab.spread", f"--workdir={lab / 'run'}"],
        env=os.environ | {"PYTHONPATH": f"{lab}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    spread = trained[2]["spread"]["spread"]
    assert f"spread, step 3, last weights\nspread {spread:.3f} of 16 clips" in run.stdout


def test_the_report_draws_what_the_term_says(trained, tmp_path):
    experiment, state, _ = trained
    aligned = alignment.Alignment(experiment, state, DOTS)
    (_, sheet), *_ = aligned.sheets(2)
    assert (
        "In the picture: attention of mine (my_lab.late_interaction:LateInteraction, pool max); "
        "weights of phrases: uniform"
    ) in sheet.heading
    assert all(block.map is not None for block in sheet.blocks[1:])
    assert alignment.write(aligned, 2, tmp_path) == 2


@pytest.mark.parametrize("coarse", [False, True])
def test_a_term_that_does_not_say_how_it_attends_gets_no_made_up_map(lab, tmp_path, coarse):
    config = config_of()
    del config.evals["pointing"]
    config.objective.terms.mine.name = "my_lab.silent:Silent"
    if coarse:
        entry = {"name": "info_nce", "pair": "video_text", "level": "coarse", "space": "joint"}
        config.objective.terms.whole = entry
    experiment = experiments.build(components.complete(config))
    state = jax.jit(experiment.init)(0)
    with pytest.raises(ConfigError) as caught:
        pointing_game.Evaluation(source=DOTS).bind(experiment)
    assert str(caught.value) == (
        "pointing_game: term 'mine' does not say how its phrases attend; define its attention()"
        + (", or measure a coarse term with term='whole'" if coarse else "")
    )
    aligned = alignment.Alignment(experiment, state, DOTS)
    (_, sheet), *_ = aligned.sheets(1)
    map_of = "class activation map of whole (info_nce)" if coarse else "no map"
    said = "mine (my_lab.silent:Silent) does not say how its phrases attend"
    assert f"In the picture: {map_of}; {said}" in sheet.heading
    assert all((block.map is not None) == coarse for block in sheet.blocks[1:])
    assert alignment.write(aligned, 1, tmp_path) == 1
    if coarse:
        chosen = pointing_game.Evaluation(source=DOTS, term="whole").bind(experiment)
        assert chosen.terms == {"cam": "whole"}
