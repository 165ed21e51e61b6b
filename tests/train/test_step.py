import itertools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.data import pipeline
from fgmm.data.stream import training_batches
from fgmm.experiment import build as experiments
from fgmm.train import checkpoint, loop, mesh
from fgmm.train.step import make_train_step
from tests.shrunken import shrunken


def make(pair="audio_text", **changes):
    config = shrunken(quickstart.get_config(), steps=10, pair=pair)
    config.transforms.crop_area = 0.5
    for key, value in changes.items():
        config[key] = value
    return experiments.build(components.complete(config))


def batches(experiment, count):
    source = experiment.source(experiment.config.data.source, "data.source")
    stream = training_batches(experiment.assembler(source), seed=0, batch_size=8)
    return [
        {k: v for k, v in batch.items() if k not in pipeline.HOST_ONLY}
        for batch in itertools.islice(stream, count)
    ]


def run(experiment, given, devices):
    small = mesh.make_mesh(jax.devices()[:devices])
    state = jax.device_put(jax.jit(experiment.init)(0), mesh.everywhere(small))
    step = make_train_step(experiment, small)
    losses = []
    for batch in given:
        # Nothing goes to the device or comes back unasked.
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, mesh.put_batch(batch, small))
        losses.append(float(metrics["loss"]))
    return state, np.array(losses), metrics


def test_eight_devices_do_what_one_does():
    config = ml_collections.ConfigDict(configs.plain(make(pair="").config))
    # Adam makes much of gradients that are nothing but rounding; a large epsilon leaves them small.
    config.optimizer.eps = 1.0
    # Draws depend on the run, the step and the clip.
    config.objective.terms.fine_video_text.update(negatives="sampled", sampled_phrases=1)
    experiment = experiments.build(config)
    around = ml_collections.ConfigDict(configs.plain(config))
    around.exchange = "ring"
    given = batches(experiment, 3)
    given[0]["video_mask"][2] = False
    given[1]["audio_mask"][5:] = False
    one, losses, _ = run(experiment, given, 1)
    eight, other_losses, _ = run(experiments.build(around), given, 8)
    np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
    for part in ("params", "statistics", "opt_state"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            *jax.device_get((getattr(one, part), getattr(eight, part))),
        )
    assert int(one.step) == int(eight.step) == 3


def test_the_state_given_is_consumed():
    experiment = make()
    alone = mesh.make_mesh(jax.devices()[:1])
    state = jax.jit(experiment.init)(0)
    (batch,) = batches(experiment, 1)
    after, _ = make_train_step(experiment, alone)(state, mesh.put_batch(batch, alone))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_a_loss_that_is_not_finite_changes_nothing_but_the_count():
    experiment = make()
    good, poisoned = batches(experiment, 2)
    poisoned["audio"] = np.full_like(poisoned["audio"], np.nan)
    before, _, _ = run(experiment, [good], 1)
    after, losses, metrics = run(experiment, [good, poisoned], 1)
    assert not np.isfinite(losses[1])
    assert metrics["skipped"] == metrics["nonfinite_run"] == after.nonfinite == 1
    for part in ("params", "statistics", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(before, part), getattr(after, part))
    recovered, _, metrics = run(experiment, [good, poisoned, good], 1)
    assert metrics["nonfinite_run"] == recovered.nonfinite == 0


def test_gradients_are_clipped():
    given = batches(make(), 1)
    sizes = []
    for limit in (0.0, 1e-6):
        config = ml_collections.ConfigDict(configs.plain(make().config))
        config.optimizer.update(clip_norm=limit, eps=1.0, weight_decay=((".*", 0.0),))
        experiment = experiments.build(config)
        initial = jax.jit(experiment.init)(0)
        state, _, _ = run(experiment, given, 1)
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), initial.params, state.params)
        sizes.append(max(jax.tree.leaves(moved)))
    assert sizes[1] < 1e-3 * sizes[0]


def test_divergence_stops_with_the_last_good_state_saved(tmp_path):
    config = ml_collections.ConfigDict(configs.plain(make(patience_nonfinite=3).config))
    # After the first update the parameters are finite, but nothing computed from them is.
    config.optimizer.learning_rate = 1e37
    config.evals, config.checkpoint.best_metric = {}, ""
    experiment = experiments.build(config)
    source = experiment.source(config.data.source, "data.source")
    with pytest.raises(loop.Diverged, match=r"3 updates in a row, the last at step 4 ") as error:
        loop.train(experiment, source, tmp_path)
    batch = list(
        itertools.islice(training_batches(experiment.assembler(source), seed=0, batch_size=8), 4)
    )[-1]
    assert source[int(batch["record"][0])].clip_id in str(error.value)
    assert str(tmp_path) in str(error.value)

    _, state = checkpoint.load(tmp_path)
    assert int(state.step) >= 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.long
def test_steps_with_embeddings_in_bfloat16():
    """The losses are close to those of float32, and evaluations see what was rounded."""
    losses, states, coarse = {}, {}, {}
    for dtype in ("float32", "bfloat16"):
        config = shrunken(quickstart.get_config(), steps=10, pair="audio_text")
        config.model.spaces.joint.dtype = dtype
        experiment = experiments.build(config)
        given = batches(experiment, 2)
        states[dtype], losses[dtype], metrics = run(experiment, given, 1)
        assert all(np.isfinite(float(value)) for value in metrics.values())
        assert metrics["skipped"] == 0
        embeddings = experiment.embed(jax.jit(experiment.init)(0), given[0])
        coarse[dtype] = embeddings["joint"]["audio"].coarse
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.01)
    assert losses["bfloat16"][0] != losses["float32"][0]
    assert coarse["bfloat16"].dtype == jnp.float32
    rounded = coarse["float32"].astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(coarse["bfloat16"], rounded)
