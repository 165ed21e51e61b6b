"""The gradient of a batch embedded in parts is that of the batch embedded at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.experiment import build as experiments
from fgmm.losses.objective import Objective, TermEntry
from fgmm.losses.sharded import sharded
from fgmm.losses.terms import fine_grained_nce, info_nce
from fgmm.models.embeddings import Embeddings
from fgmm.models.heads import normalise
from fgmm.train import accumulation, grad_cache, mesh
from fgmm.train.step import make_train_step
from tests.shrunken import shrunken
from tests.train.test_step import batches


class Model(nn.Module):
    """Two linear encoders; nothing in them depends on the rest of the batch, or on chance."""

    @nn.compact
    def __call__(self, inputs, train):
        video = nn.Dense(5, param_dtype=inputs["x"].dtype)(inputs["x"])
        text = nn.Dense(5, param_dtype=inputs["y"].dtype)(inputs["y"])
        gates = [nn.Dense(1, param_dtype=inputs[v].dtype)(inputs[v])[..., 0] for v in ("x", "y")]
        sides = (video, inputs["x_mask"], video.mean(1)), (text, inputs["y_mask"], text.mean(2))
        video, text = (
            Embeddings(normalise(local), mask, normalise(coarse), gate)
            for (local, mask, coarse), gate in zip(sides, gates, strict=True)
        )
        return {"joint": {"video": video, "text": text}}


def objective():
    place = {"pair": "video_text", "space": "joint"}
    return Objective(
        {
            "fine": TermEntry(term=info_nce.Term(), level="fine", **place),
            "gated": TermEntry(
                term=info_nce.Term(direction="symmetric", weighting="learned"),
                level="fine",
                **place,
            ),
            "phrases": TermEntry(term=fine_grained_nce.Term(), level="fine", **place),
            "drawn": TermEntry(
                term=info_nce.Term(negatives="importance", candidates=5), level="fine", **place
            ),
            "coarse": TermEntry(term=info_nce.Term(), level="coarse", weight=0.5, **place),
        }
    )


def linear_batch(dtype, clips=16):
    rng = np.random.default_rng(0)
    y_mask = rng.random((clips, 2, 3)) < 0.7
    return {
        "x": jnp.asarray(rng.normal(size=(clips, 4, 6)), dtype),
        "x_mask": jnp.asarray(rng.random((clips, 4)) < 0.8),
        "y": jnp.asarray(rng.normal(size=(clips, 2, 3, 7)), dtype),
        "y_mask": jnp.asarray(y_mask).at[5].set(False),
        "tokens": jnp.asarray(rng.integers(1, 4, (clips, 2, 6)), jnp.int32),
        "phrase_ids": jnp.broadcast_to(jnp.array([1, 1, 2, 2, 3, 3], jnp.int32), (clips, 2, 6)),
    }


def gradients(params, batch, micro_batches, devices=1):
    """Loss and gradient; with 0 micro-batches, without a cache at all."""
    small = mesh.make_mesh(jax.devices()[:devices])

    def embed(params, clips, key):
        del key
        return Model().apply({"params": params}, clips, train=True), {}

    loss = sharded(objective(), small, replicated=(0, 3)) if devices > 1 else objective()

    def contrast(params, embeddings):
        return loss(params, embeddings, batch, jnp.int32(0), key=jax.random.key(7))

    def whole(params):
        return contrast(params["objective"], embed(params["model"], batch, None)[0])[0]

    @jax.jit
    def in_parts(params, batch):
        loss, _, _, gradient = grad_cache.cache_gradients(
            embed,
            contrast,
            params,
            batch,
            jax.random.key(0),
            micro_batches=micro_batches,
            mesh=small,
        )
        return loss, gradient

    if micro_batches == 0:
        return jax.jit(jax.value_and_grad(whole))(params)
    return in_parts(params, jax.device_put(batch, mesh.by_clip(small)))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(jnp.float64, 1e-10), pytest.param(jnp.float32, 1e-5, marks=pytest.mark.long)],
)
def test_parts_give_the_gradient_of_the_whole(dtype, tolerance):
    with jax.enable_x64(dtype == jnp.float64):
        batch = linear_batch(dtype)
        params = {
            "model": Model().init(jax.random.key(0), batch, train=False)["params"],
            "objective": jax.tree.map(lambda x: x.astype(dtype), objective().init()),
        }
        loss, expected = gradients(params, batch, 0)
        for micro_batches, devices in ((1, 1), (4, 1), (16, 1), (2, 8)):
            other, gradient = gradients(params, batch, micro_batches, devices)
            np.testing.assert_allclose(other, loss, rtol=tolerance)
            flat, wanted = (jax.flatten_util.ravel_pytree(g)[0] for g in (gradient, expected))
            assert flat.dtype == dtype
            error = np.linalg.norm(flat - wanted) / np.linalg.norm(wanted)
            assert error < tolerance, (micro_batches, devices)


def test_accumulated_parts_give_the_mean_of_their_gradients():
    """Gates too: their weights are within a clip, so a part sees those of the whole."""
    batch, key, alone = (
        linear_batch(jnp.float32),
        jax.random.key(0),
        mesh.make_mesh(jax.devices()[:1]),
    )
    model = Model().init(key, batch, train=False)["params"]
    params = {"model": model, "objective": objective().init()}

    @jax.jit
    def of_part(part, key):
        del key

        def loss(params):
            embeddings = Model().apply({"params": params["model"]}, part, train=True)
            given = params["objective"], embeddings, part, jnp.int32(0)
            return objective()(*given, key=jax.random.key(7))[0]

        value, gradient = jax.value_and_grad(loss)(params)
        return value, {}, {}, gradient

    loss, _, _, found = accumulation.accumulate_gradients(
        of_part, batch, key, micro_batches=2, mesh=alone
    )
    halves = [of_part({k: v[m::2] for k, v in batch.items()}, key) for m in range(2)]
    np.testing.assert_allclose(loss, np.mean([half[0] for half in halves]), rtol=1e-5)
    expected = jax.tree.map(lambda *g: sum(g) / 2, *(half[3] for half in halves))
    for wanted, actual in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-6)
    gates = [found["model"][name]["kernel"] for name in ("Dense_2", "Dense_3")]
    assert all(np.abs(gate).max() > 1e-4 for gate in gates)


def small_experiment(clips, parts, exchange="gather"):
    """Video and text with a coarse term alone, which compile fastest."""
    config = shrunken(quickstart.get_config("fine=none"), steps=10, pair="video_text")
    config.batch_size, config.grad_cache, config.exchange = clips, parts, exchange
    config.transforms.crop_area = 0.5
    return experiments.build(components.complete(config))


@pytest.mark.parametrize(("parts", "exchange"), [(1, "gather"), (1, "ring"), (2, "ring")])
def test_embeddings_travel_as_the_config_says(parts, exchange):
    experiment = small_experiment(16, parts, exchange)
    step = make_train_step(experiment, mesh.make_mesh())
    lowered = step.lower(jax.eval_shape(experiment.init, 0), experiment.blank_batch(16))
    assert ("collective_permute" in lowered.as_text()) == (exchange == "ring")


def trained(parts, steps=1, devices=1):
    experiment = small_experiment(8, parts)
    small = mesh.make_mesh(jax.devices()[:devices])
    state = jax.device_put(jax.jit(experiment.init)(0), mesh.everywhere(small))
    step = make_train_step(experiment, small)
    for batch in batches(experiment, steps):
        state, metrics = step(state, mesh.put_batch(batch, small))
    return state, metrics


@pytest.mark.long
def test_statistics_of_the_batch_are_the_one_difference():
    """Micro-batches are normalised by themselves, and running means are those of the whole."""
    whole, whole_metrics = trained(1)
    parts, metrics = trained(4)
    assert float(metrics["loss"]) != float(whole_metrics["loss"])
    np.testing.assert_allclose(metrics["loss"], whole_metrics["loss"], rtol=0.2)
    stem = "video/ConvBlock2D_0/BatchNorm_0/BatchNorm_0/mean"
    means = []
    for state in (whole, parts):
        flat, _ = jax.tree.flatten_with_path(state.statistics)
        found = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in flat}
        (name,) = (name for name in found if name.endswith(stem))
        means.append(found[name])
    # Only the first layer sees the same inputs either way.
    np.testing.assert_allclose(*means, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_activations_of_a_part_alone_are_held():
    def temporary(parts):
        experiment = small_experiment(64, parts)
        one = mesh.make_mesh(jax.devices()[:1])
        state = jax.eval_shape(experiment.init, 0)
        batch = experiment.blank_batch(64)
        compiled = make_train_step(experiment, one).lower(state, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(8) < 0.4 * temporary(1)


@pytest.mark.long
def test_devices_do_not_matter():
    one, _ = trained(2, steps=2)
    four, _ = trained(2, steps=2, devices=4)
    # The clips of a micro-batch are the same, whichever device they are on.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        one.statistics,
        four.statistics,
    )
