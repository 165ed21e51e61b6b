"""Embeddings in bfloat16: exact products, float32 from there on, and gradients within 1%."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from fgmm.experiment import build as experiments
from fgmm.losses import clip_similarity, info_nce, matched_similarity
from fgmm.train import mesh
from fgmm.train.step import make_train_step
from tests.shrunken import shrunken

B, N, P, D, K = 12, 20, 3, 32, 5
LONG = pytest.mark.long


def embeddings():
    """Unit vectors in bfloat16, as they are early in training: with a mean cosine of 0.8, phrases
    nearest to a local embedding of their clip. And masks.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(B, N, D)), rng.normal(size=(B, P, D))
    y += 0.8 * x[:, :P]
    x, y = x + 2, y + 2.3
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    masks = rng.random((B, N)) < 0.8, rng.random((B, P)) < 0.8
    masks[0][:, 0] = masks[1][:, 0] = True
    return [jnp.asarray(v, jnp.bfloat16) for v in (x, y)], [jnp.asarray(mask) for mask in masks]


# Every clip is compared with captions 0 to 2, whose gradients have parts that nearly cancel.
CANDIDATES = np.array([[b, 0, 1, 2, (b + 1) % B] for b in range(B)], np.int32)


def loss_of(layout, pool, implementation, masks, x, y, temperature):
    options = {"pool": pool, "temperature": temperature, "implementation": implementation}
    if layout == "matched pairs":
        return jnp.sum(jnp.sin(3 * matched_similarity(x, y, *masks, **options)))
    if implementation == "blockwise":
        options["block"] = 4, 4
    if layout == "given candidates":
        y, masks = y.reshape(B // K, K, P, D), (masks[0][: B // K], masks[1].reshape(-1, K, P))
        S = clip_similarity(x[: B // K], y, *masks, direction="symmetric", **options)
        return jnp.sum(jax.nn.logsumexp(S.values / 0.07, axis=1) - S.values[:, 0] / 0.07)
    candidates = CANDIDATES if layout == "candidates" else None
    S = clip_similarity(x, y, *masks, direction="symmetric", candidates=candidates, **options)
    return info_nce(S, temperature=0.07)


@pytest.mark.parametrize("pool", ["softmax", pytest.param("logsumexp", marks=LONG)])
@pytest.mark.parametrize(
    ("layout", "implementation"),
    [
        ("all pairs", "blockwise"),
        pytest.param("candidates", "blockwise", marks=LONG),
        ("candidates", "dense"),
        pytest.param("all pairs", "dense", marks=LONG),
        pytest.param("given candidates", "blockwise", marks=LONG),
        pytest.param("given candidates", "dense", marks=LONG),
        pytest.param("matched pairs", "blockwise", marks=LONG),
        pytest.param("matched pairs", "dense", marks=LONG),
    ],
)
def test_gradients_are_those_of_float64_at_the_same_embeddings(layout, implementation, pool):
    sides, masks = embeddings()
    if layout == "given candidates":
        sides[1], masks[1] = (v[: B // K * K] for v in (sides[1], masks[1]))
    with jax.enable_x64(True):
        compute, exact = (
            jax.jit(
                jax.value_and_grad(
                    functools.partial(loss_of, layout, pool, how, masks), argnums=(0, 1, 2)
                )
            )
            for how in (implementation, "dense")
        )
        for temperature in (0.02, 0.1, 1.0):
            loss, gradients = compute(*sides, jnp.float32(temperature))
            wide = [jnp.float64(v) for v in (*sides, temperature)]
            exact_loss, exact_gradients = exact(*wide)
            assert [loss.dtype, *(g.dtype for g in gradients)] == [
                *("float32", "bfloat16", "bfloat16", "float32")
            ]
            np.testing.assert_allclose(loss, exact_loss, rtol=1e-5)
            for gradient, wanted in zip(gradients, exact_gradients, strict=True):
                error = np.linalg.norm(np.float64(gradient) - wanted) / np.linalg.norm(wanted)
                # In blocks ∂s/∂a is rounded as well, where dense rounds the sums alone.
                assert error < (1e-2 if implementation == "blockwise" else 2.5e-3)


def products(jaxpr, within=""):
    """Every ``dot_general`` of a jaxpr, and the jitted functions that it is in."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation, within
        name = f"{within}/{equation.params.get('name', '')}"
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from products(inner, name)


def test_products_of_a_training_step_have_operands_in_bfloat16():
    """Of the fine term, forward and backward; their results are float32."""
    config = shrunken(quickstart.get_config())
    del config.model.audio
    config.model.spaces.joint.update(dtype="bfloat16", modalities=("video", "text"))
    for name in list(config.objective.terms):
        if "audio" in name:
            del config.objective.terms[name]
        else:
            config.objective.terms[name].implementation = "blockwise"
    experiment = experiments.build(config)
    step = make_train_step(experiment, mesh.make_mesh(jax.devices()[:1]))
    traced = step.trace(experiment.abstract_state, experiment.blank_batch(8))
    narrow = [
        (product, within)
        for product, within in products(traced.jaxpr.jaxpr)
        if jnp.bfloat16 in [operand.aval.dtype for operand in product.invars]
    ]
    # One product forward and three backward, the first once more among them.
    assert len(narrow) == 4
    for product, within in narrow:
        assert "/clip_similarity" in within
        assert [operand.aval.dtype for operand in product.invars] == [jnp.bfloat16] * 2
        assert product.outvars[0].aval.dtype == jnp.float32
