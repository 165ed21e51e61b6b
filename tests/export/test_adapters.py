"""A CLIP with adapters: it starts as the published one, opens with them, and is exported merged."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from jax import export as jax_export

import fgmm
from fgmm import components
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.experiment import lora
from fgmm.export.__main__ import export
from fgmm.train import checkpoint, init_from
from fgmm.train.checkpoint import Checkpoints, config_of

RANK = 2


def config(workdir, **options):
    found = config_of(workdir)
    found.lora.update(rules=(("model/encoders_.*/block_.*/kernel", RANK),), **options)
    found.init_from.path = str(workdir)
    return components.complete(found)


@pytest.fixture(scope="module")
def adapted(converted, tmp_path_factory):
    """The folder of a run with adapters that do something, from a published one."""
    _, published = converted["clip"]
    experiment = experiments.build(config(published))
    start = init_from.read(experiment)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), experiment.abstract_state)
    state = start.fill(zeros)
    # At its start it is the published model to the bit.
    _, before = checkpoint.load(published)
    merged = experiment.adapters.merged(state.params["model"])
    jax.tree.map(np.testing.assert_array_equal, merged, before.params["model"])
    assert "initialised" in start.report
    rng = np.random.default_rng(0)

    def moved(at, x):
        adapter = at[-1].key in (lora.A, lora.B)
        return rng.normal(0, 0.2, x.shape).astype(np.float32) if adapter else x

    params = jax.tree_util.tree_map_with_path(moved, state.params)
    state = state.replace(step=np.int32(1), params=params)
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    checkpoints = Checkpoints(workdir, experiment, experiment.config.checkpoint)
    checkpoints.save(1, state, {})
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def embedded(adapted, pictures):
    return fgmm.load(adapted, batch_size=2).embed_image(pictures)


def test_merged_equals_unmerged(adapted, converted, pictures, embedded, tmp_path):
    lines = export(adapted, tmp_path / "out", "safetensors", "latest")
    assert lines[-1] == "merged adapters: 16 kernels, rank 2, alpha 16"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- merged adapters: 16 kernels, rank 2, alpha 16\n" in card
    model = fgmm.load(tmp_path / "out", batch_size=2)
    assert model.experiment.config.lora.rules == ()
    np.testing.assert_allclose(model.embed_image(pictures), embedded, atol=1e-5)
    untouched = fgmm.load(converted["clip"][1], batch_size=2).embed_image(pictures)
    assert np.abs(embedded - untouched).max() > 0.01
    # What a run without adapters would start with.
    plain = config(tmp_path / "out")
    plain.lora.rules = ()
    filled = init_from.read(experiments.build(plain)).fill(model.state)
    jax.tree.map(np.testing.assert_array_equal, filled.params, model.state.params)


def test_the_published_layout_and_functions_have_them_merged(
    adapted, converted, pictures, embedded, tmp_path
):
    export(adapted, tmp_path / "huggingface", "huggingface", "latest")
    found = safetensors.numpy.load_file(tmp_path / "huggingface" / "model.safetensors")
    given, _ = converted["clip"]
    assert found.keys() == given.keys()
    changed = {name for name in found if not np.array_equal(found[name], given[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"weight"}
    queries = [name for name in changed if "q_proj" in name]
    assert len(queries) == 4
    for name in changed:
        update = found[name].astype(np.float64) - given[name]
        # Queries, keys and values share an update.
        assert np.linalg.matrix_rank(update, tol=1e-4) == RANK, name

    export(adapted, tmp_path / "functions", "stablehlo", "latest")
    weights = safetensors.numpy.load_file(tmp_path / "functions" / "model.safetensors")
    assert not any("lora" in name for name in weights)
    function = jax_export.deserialize((tmp_path / "functions" / "video.stablehlo").read_bytes())
    vectors = function.call(weights, {"video": pictures[:, None]})["joint"]["coarse"]
    np.testing.assert_allclose(vectors, embedded, atol=1e-5)


def test_adapters_without_a_place_or_of_another_alpha_are_named(adapted, capsys):
    plain = config(adapted)
    plain.lora.rules = ()
    with pytest.raises(
        ConfigError, match=r"^init_from: model/.*/lora_[ab] is an adapter, but lora.rules has no"
    ):
        init_from.read(experiments.build(plain))
    assert "left over" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"^lora\.alpha=4.0, and the adapters of init_from"):
        init_from.read(experiments.build(config(adapted, alpha=4.0)))
    again = experiments.build(config(adapted))
    _, state = checkpoint.load(adapted)
    filled = init_from.read(again).fill(state)
    loaded, saved = (flatten_dict(found.params) for found in (filled, state))
    assert all(np.array_equal(loaded[name], saved[name]) for name in saved)
