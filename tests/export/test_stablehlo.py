"""Exported functions give the embeddings of the run, in a process that cannot import fgmm."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.export import stablehlo
from fgmm.export.__main__ import export
from fgmm.export.folder import Run
from tests.models.small import SMALL, small
from tests.shrunken import shrunken

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "encoders.md").read_text()
# What is before and after the lines of the page.
BEFORE = """
import sys
sys.modules["fgmm"] = None
import numpy as np
given = dict(np.load(sys.argv[1]))
frames = given["video"]
"""
AFTER = """
found = {"page": vectors}
for name, inputs in {"audio": ("audio",), "text": ("tokens", "phrase_ids")}.items():
    function = export.deserialize((folder / f"{name}.stablehlo").read_bytes())
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}
    outputs = function.call(weights, {key: given[key] for key in inputs})["joint"]
    found |= {f"{name}_{key}": array for key, array in outputs.items()}
np.savez(sys.argv[2], **found)
"""


def test_without_fgmm_embeddings_are_the_same(workdir, model, tmp_path):
    export(workdir, tmp_path / "out", "stablehlo", "latest")
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "deseri" in code)
    assert len([line for line in code.splitlines() if line]) <= 10
    rng = np.random.default_rng(0)
    captions = ["a red ball rolls over the grass", "the star sinks"]
    spelled = [model._text(caption, 0) for caption in captions]
    given = {
        "video": rng.integers(0, 256, (3, 2, 12, 16, 3), np.uint8),
        "audio": rng.uniform(-0.5, 0.5, (2, model.experiment.shape.samples)).astype(np.float32),
        **{name: np.concatenate([found[name] for found in spelled]) for name in spelled[0]},
    }
    np.savez(tmp_path / "given.npz", **given)
    program = BEFORE + code.replace("exported/a", str(tmp_path / "out")) + AFTER
    paths = [str(tmp_path / name) for name in ("given.npz", "found.npz")]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", program, *paths],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found = np.load(tmp_path / "found.npz")
    # Another number of clips than captions and sounds.
    expected = model.embed_video(given["video"], local=True)
    np.testing.assert_allclose(found["page"], expected.coarse, atol=1e-5)
    for name, expected in (
        ("audio", model.embed_audio(given["audio"], local=True)),
        ("text", model.embed_text(captions, local=True)),
    ):
        np.testing.assert_allclose(found[f"{name}_coarse"], expected.coarse, atol=1e-5)
        mask = found[f"{name}_mask"]
        np.testing.assert_array_equal(mask, expected.mask)
        ours = np.where(mask[..., None], expected.local, 0)
        theirs = np.where(mask[..., None], found[f"{name}_local"], 0)
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    signatures = json.loads((tmp_path / "out" / "signatures.json").read_text())
    assert signatures["video"]["inputs"] == {"video": "uint8 [B, 2, 12, 16, 3]"}
    assert signatures["text"]["outputs"]["joint"]["coarse"] == "float32 [B, 8]"
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Its functions run with jax alone" in page


ENCODERS = [(modality, name) for modality, encoders in SMALL.items() for name in encoders]


@pytest.mark.long
@pytest.mark.parametrize(("modality", "name"), ENCODERS)
def test_every_encoder_takes_any_number_of_inputs(workdir, modality, name):
    config = shrunken(quickstart.get_config())
    config.data.update(frames=4, height=32, width=32, tokens=12, seconds=2.0)
    config.model[modality] = small(modality, name)
    config.objective.terms, config.evals = {}, {}
    config.checkpoint.best_metric = ""
    experiment = experiments.build(components.complete(config))
    run = Run(workdir, experiment, experiment.abstract_state, "last")
    found = stablehlo.exported_function(run, modality)
    batch, *_ = {str(leaf.shape[0]) for leaf in found.out_avals}
    assert batch == "B"
    assert found.platforms == ("cpu", "cuda", "tpu")


def test_without_the_library_it_is_said(workdir, model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--format=stablehlo needs flatbuffers"):
        stablehlo.check(Run(workdir, model.experiment, model.state, "ema"))
