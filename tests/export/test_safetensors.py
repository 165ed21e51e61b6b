"""Weights alone open as the run that they are of, with the same bits."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

import fgmm
from fgmm.config import ConfigError
from fgmm.export import card
from fgmm.export import folder as folders
from fgmm.export.__main__ import export
from fgmm.train import checkpoint
from tests import programs
from tests.convert import published_folders

CAPTIONS = ["a red ball rolls over the grass", "the star sinks"]


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    """The run's moving average."""
    output = tmp_path_factory.mktemp("exported") / "a"
    export(workdir, output, "safetensors", "latest")
    return output


def test_embeddings_have_the_same_bits(model, exported):
    other = fgmm.load(exported, batch_size=4)
    assert repr(other) == repr(model)
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 12, 16, 3), np.uint8)
    for name, given in (("video", frames), ("text", CAPTIONS)):
        one, two = (
            getattr(opened, f"embed_{name}")(given, local=True) for opened in (model, other)
        )
        np.testing.assert_array_equal(one.coarse, two.coarse)
        np.testing.assert_array_equal(one.local, two.local)
        assert 0 < np.abs(one.local).max() < np.inf
    names = {file.name for file in exported.iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.model", "README.md"}
    assert not [path for path in exported.parent.iterdir() if path != exported]


def test_arrays_have_the_names_of_their_paths(workdir, exported):
    arrays = safetensors.numpy.load_file(exported / "model.safetensors")
    state = checkpoint.load(workdir)[1]
    kernel = state.params["model"]["heads_joint_video"]["coarse"]["kernel"]
    name = "params/model/heads_joint_video/coarse/kernel"
    np.testing.assert_array_equal(arrays[name], kernel)
    statistics = [name for name in arrays if not name.startswith("params/")]
    assert len(arrays) == len(jax.tree.leaves([state.params, state.statistics]))
    assert len(statistics) == len(jax.tree.leaves(state.statistics)) > 0


def test_another_run_starts_from_it(workdir, exported):
    one, other = checkpoint.read(workdir), checkpoint.read(exported, "3", "ema")
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, one.statistics, other.statistics)
    assert one.config == other.config
    config = checkpoint.config_of(exported)
    assert config.data.tokenizer == str(exported / "tokenizer.model")
    assert config.model == checkpoint.config_of(workdir).model


def test_the_weights_of_the_last_step(workdir, model, exported, tmp_path):
    export(workdir, tmp_path / "last", "safetensors", "3", "last")
    average, last = (
        safetensors.numpy.load_file(path / "model.safetensors")
        for path in (exported, tmp_path / "last")
    )
    name = "params/model/heads_joint_video/coarse/kernel"
    np.testing.assert_array_equal(average[name], 2 * last[name])
    with pytest.raises(ConfigError, match=r"weights='ema': .* holds other weights; allowed: last"):
        fgmm.load(tmp_path / "last", weights="ema")
    with pytest.raises(ConfigError, match="no checkpoint of step='4'; allowed: latest, best, 3"):
        fgmm.load(tmp_path / "last", step=4)
    # What is exported once more is still what it was.
    assert export(tmp_path / "last", tmp_path / "again", "safetensors", "best")
    again = safetensors.numpy.load_file(tmp_path / "again" / "model.safetensors")
    np.testing.assert_array_equal(again[name], last[name])
    assert checkpoint.weights_of(tmp_path / "again", model.experiment) == "last"


def test_what_was_converted_and_not_touched_has_the_published_bits(converted, tmp_path):
    given, workdir = converted["clip"]
    export(workdir, tmp_path / "out", "safetensors", "latest")
    found = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    np.testing.assert_array_equal(
        found["params/model/heads_joint_text/coarse/kernel"], given["text_projection.weight"].T
    )
    words = given["text_model.embeddings.token_embedding.weight"]
    np.testing.assert_array_equal(found["params/model/encoders_text/words/embedding"], words)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "- converted from: small\n- `model.safetensors`: sha256 0000" in page


def test_the_card_has_the_numbers_and_their_protocol(workdir):
    experiment, state = checkpoint.load(workdir)
    report = {
        "evaluation": "retrieval",
        "step": 3,
        "weights": "ema",
        "trained": {},
        "evaluated": {},
        "protocol": {"clips": 512},
        "results": {"fine/text_to_video/r@10": 0.51234},
        "config": {"seed": 0, "data": {"source": {"name": "narrated_shapes"}}},
    }
    run = folders.Run(workdir, experiment, state, "ema")
    assert "This checkpoint was not evaluated." in card.card(run, "a", "")
    path = workdir / "retrieval-3.json"
    try:
        path.write_text(json.dumps(report))
        page = card.card(run, "a", "It opens.", ["a note"])
        path.write_text(json.dumps(report | {"weights": "last"}))
        other = card.card(run, "a", "")
        # A file of any name that --output gave, of a time when results named no weights.
        path = path.rename(workdir / "retrieval-coco.json")
        path.write_text(json.dumps({k: v for k, v in report.items() if k != "weights"}))
        unnamed = card.card(run, "a", "")
    finally:
        path.unlink()
    assert "| fine/text_to_video/r@10 | 0.5123 |" in page
    assert '"clips": 512' in page
    assert re.search(r"^- data: .*name=narrated_shapes", page, re.M)
    assert "- step 3 of a, the moving average of its parameters" in page
    assert re.search(r"- exported with: fgmm [\d.]+, commit ", page)
    assert "- a note\n" in page
    config = json.loads(page.rpartition("```json\n")[2].partition("```")[0])
    assert config["model"]["video"]["name"] == experiment.config.model.video.name
    assert "retrieval was evaluated with other weights, last." in other
    assert "retrieval was evaluated with other weights, not named." in unnamed
    assert "0.5123" not in other


def damaged(exported, tmp_path, change):
    """A copy of the exported folder whose arrays are changed."""
    arrays = safetensors.numpy.load_file(exported / "model.safetensors")
    with safetensors.safe_open(exported / "model.safetensors", framework="numpy") as file:
        header = file.metadata()
    change(arrays)
    for name in ("config.json", "tokenizer.model"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors", metadata=header)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.popitem(), "does not fit config.json: .* is missing"),
        (lambda arrays: arrays.update(x=np.ones(2)), "does not fit config.json: x is left over"),
        (
            lambda arrays: arrays.update(
                {"params/model/heads_joint_video/coarse/kernel": np.ones((2, 3))}
            ),
            r"heads_joint_video/coarse/kernel has shape \(2, 3\), not \(",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(exported, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        fgmm.load(damaged(exported, tmp_path, change))


def test_other_folders_are_named(tmp_path, exported):
    published_folders.write_clip(tmp_path / "clip")
    with pytest.raises(ConfigError, match=r"was not written by fgmm\.export; of published weights"):
        fgmm.load(tmp_path / "clip")
    with pytest.raises(ConfigError, match=r"config\.json is no config of a run"):
        checkpoint.config_of(tmp_path / "clip")
    cut = damaged(exported, tmp_path, lambda arrays: None)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="damaged or no file of safetensors"):
        fgmm.load(cut)
    (cut / "model.safetensors").write_bytes(weights)
    (cut / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is missing or damaged"):
        fgmm.load(cut)


def test_nothing_is_written_over_or_by_half(workdir, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(ConfigError, match="holds something already; give a new or empty folder"):
        export(workdir, tmp_path / "full", "safetensors", "latest")
    with pytest.raises(ConfigError, match="full/mine is no folder; give another path"):
        export(workdir, tmp_path / "full" / "mine", "safetensors", "latest")
    with pytest.raises(ConfigError, match="--output=gs:/bucket/a: gs:// is remote storage"):
        export(workdir, pathlib.Path("gs://bucket/a"), "safetensors", "latest")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZeroDivisionError), folders.whole(tmp_path / "empty") as folder:
        (folder / "half").write_text(str(1 / len(list(folder.iterdir()))))
    assert [path.name for path in tmp_path.iterdir()] in (["full", "empty"], ["empty", "full"])
    assert not any((tmp_path / "empty").iterdir())


def test_the_program(workdir, tmp_path, repository):
    given = (f"--workdir={workdir}", f"--output={tmp_path / 'a'}", "--step=3")
    found = programs.run("fgmm.export", *given, cwd=repository)
    assert found.returncode == 0, found.stderr
    assert re.match(rf"{tmp_path}/a: step 3 as safetensors, [\d.]+ MB: README.md, ", found.stdout)
    assert fgmm.load(tmp_path / "a").modalities == ("video", "audio", "text")


def test_what_is_not_there_is_named_before_anything_is_written(workdir, tmp_path):
    formats = "allowed: huggingface, safetensors, stablehlo$"
    with pytest.raises(ConfigError, match=f"--format='onnx' is unknown; {formats}"):
        export(workdir, tmp_path / "x", "onnx", "latest")
    with pytest.raises(ConfigError, match="--step=best: no checkpoint has"):
        export(workdir, tmp_path / "x", "safetensors", "best")
    assert not list(tmp_path.iterdir())
