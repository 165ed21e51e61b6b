"""Every optimizer's state is shared out and stored as its parameters are; a run with all options of
the optimizer, and with adapters, goes on bit for bit.
"""

import dataclasses
import signal

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import pytest

import fgmm
from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from fgmm.experiment import factories, optimizer
from fgmm.experiment.rules import path_of
from fgmm.interruption import Interrupted
from fgmm.train import checkpoint, init_from, loop, sharding
from fgmm.train import mesh as meshes
from tests.shrunken import shrunken

VIDEO = "model/encoders_video/.*"


def small(steps=4, **options):
    """Video and text, a coarse term; large arrays are cut in two."""
    config = shrunken(quickstart.get_config("fine=none"), steps=steps, pair="video_text")
    config.evals, config.checkpoint.best_metric, config.checkpoint.every_steps = {}, "", 2
    config.objective.terms = {"coarse": config.objective.terms.coarse_video_text}
    config.mesh.update(fsdp=2, fsdp_minimum=64)
    with config.unlocked():
        if "name" in options:
            for option in factories.declared("adamw"):
                del config.optimizer[option]
        config.optimizer.update(options)
    return components.complete(config)


def tree_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(small())


@pytest.mark.parametrize("name", factories.FACTORIES)
def test_a_state_is_shared_out_stored_and_read_back(name, experiment, tmp_path):
    entry = configs.plain(configs.defaults().optimizer) | {
        "name": name,
        **factories.checked(name, {}),
    }
    entry["learning_rate_scale"] = (("model/heads_.*", "frozen"),)
    experiment = dataclasses.replace(experiment, optimizer=optimizer.from_config(entry, 10))
    mesh = meshes.make_mesh(jax.devices()[:2], fsdp=2)
    shardings = sharding.of_state(experiment, mesh)
    cut = {
        path_of(at)
        for at, spec in jax.tree_util.tree_leaves_with_path(shardings.params)
        if not spec.is_fully_replicated and not path_of(at).startswith("model/heads_")
    }
    assert cut
    moments = [
        path_of(at)
        for at, spec in jax.tree_util.tree_leaves_with_path(shardings.opt_state)
        if not spec.is_fully_replicated
    ]
    # Adafactor's sums over rows and columns of a matrix have no axis of their own to be cut by.
    stateless = name == "sgd" or name == "adafactor" or name == "rmsprop"
    assert stateless or {path for path in cut if any(m.endswith(path) for m in moments)} == cut

    rng = np.random.default_rng(0)
    shapes = experiment.abstract_state.params
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(p.dtype), shapes)
    gradients = jax.tree.map(lambda p: rng.standard_normal(p.shape).astype(p.dtype), shapes)
    gradients = experiment.optimizer.frozen.zeroed(gradients)
    state = experiment.optimizer.init(params)

    def apart(tree):
        return jax.device_put(tree, shardings.params)

    update = jax.jit(experiment.optimizer.update, out_shardings=(None, shardings.opt_state))
    shared = jax.device_put(state, shardings.opt_state)
    updates, shared = update(apart(gradients), shared, apart(params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        held = path_of(path).startswith("model/heads_")
        assert np.any(leaf) != held, path
        assert np.isfinite(leaf).all(), path

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", shared)
        checkpointer.wait_until_finished()
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, shared)
        tree_equal(checkpointer.restore(tmp_path / "state", like), shared)


ALL = {
    "name": "muon",
    "ema": 0.9,
    "layer_decay": 0.7,
    "learning_rate_scale": ((".*/(Conv|BatchNorm)_0/.*", "frozen"), ("model/heads_.*", 2.0)),
}


def trained(config, workdir):
    experiment = experiments.build(config)
    return loop.train(experiment, experiment.source(config.data.source, "data.source"), workdir)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four steps of which two are a resume, its state, and what it printed."""
    workdir = tmp_path_factory.mktemp("run")
    config = small(**ALL)
    config.lora.rules = (("model/encoders_text/.*/kernel", 2),)
    shorter = ml_collections.ConfigDict(configs.plain(config))
    with pytest.MonkeyPatch.context() as patch:
        # Stopped behind step 2, as by a signal.
        ask = loop._Run._hear

        def hear(self, told):
            problems = ask(self, told)
            self.stopping = signal.SIGTERM if self.step >= 2 else None
            return problems

        patch.setattr(loop._Run, "_hear", hear)
        with pytest.raises(Interrupted, match="SIGTERM: stopped at step 2 of 4, saved"):
            trained(shorter, workdir)
    return workdir, config, trained(config, workdir)


@pytest.mark.long
def test_a_run_goes_on_bit_for_bit(run, tmp_path, capsys):
    _, config, state = run
    whole = trained(config, tmp_path)
    tree_equal(jax.device_get(state), jax.device_get(whole))
    printed = capsys.readouterr().out
    assert "evaluated:  moving average of parameters (ema 0.9)\n" in printed
    initial = jax.jit(experiments.build(config).init)(config.seed)
    held = experiments.build(config).optimizer.frozen
    kinds = set()
    before, after = (init_from.leaves(s.params, s.statistics) for s in (initial, whole))
    for leaf, array in after.items():
        assert np.array_equal(before[leaf], array) == held.holds(leaf.path), leaf
        kinds.add((leaf.collection, held.holds(leaf.path)))
        if leaf.path.endswith(("lora_a", "lora_b")):
            assert held.holds(leaf.path[: -len("lora_a")] + "kernel")
            kinds.add("adapter")
    assert {("params", True), ("params", False), ("batch_stats", True), "adapter"} <= kinds


@pytest.mark.long
def test_evaluations_load_and_other_runs_take_the_average(run):
    workdir, config, state = run
    for weights, expected in (("", state.ema), ("ema", state.ema), ("last", state.params)):
        _, loaded = checkpoint.load(workdir, weights=weights)
        tree_equal(loaded.params, jax.device_get(expected))
        assert loaded.ema is None
        tree_equal(checkpoint.read(workdir, weights=weights).params, jax.device_get(expected))
    assert not np.array_equal(
        state.ema["objective"]["coarse"]["log_temperature"],
        state.params["objective"]["coarse"]["log_temperature"],
    )
    tree_equal(fgmm.load(workdir).state.params, jax.device_get(state.ema))
    config = ml_collections.ConfigDict(configs.plain(config))
    config.init_from.path = str(workdir)
    started = experiments.build(config)
    filled = init_from.read(started).fill(jax.jit(started.init)(1))
    tree_equal(filled.params, jax.device_get(state.ema))
    tree_equal(filled.ema, filled.params)


def test_weights_that_are_not_there_are_named(run, tmp_path):
    workdir, *_ = run
    with pytest.raises(ConfigError, match=r"^weights='best' is unknown; allowed: ema, last"):
        fgmm.load(workdir, weights="best")
    plain = experiments.build(small())
    checkpoints = checkpoint.Checkpoints(tmp_path, plain, plain.config.checkpoint)
    checkpoints.save(1, jax.jit(plain.init)(0), {})
    checkpoints.close()
    for read in (checkpoint.load, checkpoint.read):
        with pytest.raises(ConfigError, match=r"^--weights='ema': the run keeps no average"):
            read(tmp_path, weights="ema")
