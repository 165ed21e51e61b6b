import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from fgmm import losses
from fgmm.losses import supervised
from fgmm.losses.objective import LOGITS
from fgmm.losses.terms import sigmoid_cross_entropy, softmax_cross_entropy

RNG = np.random.default_rng(0)
LOGITS_8 = RNG.normal(size=(8, 5)).astype(np.float32)
ONE = RNG.integers(5, size=8).astype(np.int32)
SEVERAL = RNG.random((8, 5)) < 0.4
MASK = np.array([1, 1, 0, 1, 1, 0, 1, 1], bool)


def softmax_by_definition(logits, labels, mask, smoothing):
    logits = np.asarray(logits, np.float64)
    total = 0.0
    for row in np.flatnonzero(mask):
        p = np.exp(logits[row]) / np.exp(logits[row]).sum()
        q = np.full(5, smoothing / 5)
        q[labels[row]] += 1 - smoothing
        total -= (q * np.log(p)).sum()
    return total / max(1, mask.sum())


def sigmoid_by_definition(logits, labels, mask):
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    loss = -np.where(labels, np.log(p), np.log(1 - p)).mean(axis=1)
    return loss[mask].mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy_is_its_definition(smoothing):
    loss = losses.softmax_cross_entropy(
        jnp.asarray(LOGITS_8), jnp.asarray(ONE), jnp.asarray(MASK), label_smoothing=smoothing
    )
    expected = softmax_by_definition(LOGITS_8, ONE, MASK, smoothing)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_sigmoid_cross_entropy_is_its_definition():
    loss = losses.sigmoid_cross_entropy(
        jnp.asarray(LOGITS_8), jnp.asarray(SEVERAL), jnp.asarray(MASK)
    )
    assert float(loss) == pytest.approx(sigmoid_by_definition(LOGITS_8, SEVERAL, MASK), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [(losses.softmax_cross_entropy, ONE), (losses.sigmoid_cross_entropy, SEVERAL)],
)
def test_what_is_masked_has_no_part(loss, labels):
    """Whatever stands in its rows; and of a batch without any label loss and gradient are 0."""
    rubbish = LOGITS_8.copy()
    rubbish[~MASK] = np.nan
    out_of_range = np.where(MASK, labels, 99) if labels.ndim == 1 else labels
    value, gradient = jax.value_and_grad(loss)(
        jnp.asarray(rubbish), jnp.asarray(out_of_range), jnp.asarray(MASK)
    )
    assert float(value) == float(loss(*map(jnp.asarray, (LOGITS_8, labels, MASK))))
    assert np.isfinite(gradient).all()
    assert (gradient[~MASK] == 0).all()
    assert (np.abs(gradient[MASK]).max(axis=1) > 0).all()
    nothing = jnp.zeros(8, bool)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(rubbish), jnp.asarray(labels), nothing)
    assert float(value) == 0
    assert (gradient == 0).all()


def test_the_highest_logit_is_right_or_not_and_ties_are_errors():
    logits = jnp.array([[1.0, 3.0, 2.0], [2.0, 2.0, 0.0], [0.0, 1.0, 5.0]])
    assert supervised.label_found(logits, jnp.array([1, 0, 1])).tolist() == [True, False, False]
    several = jnp.array([[0, 0, 1], [1, 1, 0], [1, 0, 1]], bool)
    assert supervised.label_found(logits, several).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("term", "labels"),
    [
        (softmax_cross_entropy.Term(label_smoothing=0.2), ONE),
        (sigmoid_cross_entropy.Term(), SEVERAL),
    ],
)
def test_an_objective_over_devices_is_that_of_the_whole_batch(term, labels):
    """Devices have different numbers of valid clips, and one has none."""
    entry = losses.LabelEntry(term=term, classifier="kind", modality="video", weight=0.5)
    objective = losses.Objective({"kind": entry})
    batch = {
        "labels": jnp.asarray(labels),
        "labels_mask": jnp.asarray(MASK),
        "video_mask": jnp.array([1, 1, 1, 1, 0, 1, 1, 1], bool),
    }

    def loss(objective, logits):
        value, metrics = objective({"kind": {}}, {LOGITS: {"kind": logits}}, batch, 0)
        return value, metrics

    logits = jnp.asarray(LOGITS_8)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    over_mesh = losses.sharded(objective, mesh, replicated=(0, 3))
    of = functools.partial(jax.value_and_grad, has_aux=True)
    (whole, metrics), gradient = of(functools.partial(loss, objective))(logits)
    (value, of_mesh), parts = jax.jit(of(functools.partial(loss, over_mesh)))(logits)
    assert float(value) == pytest.approx(float(whole), rel=1e-6)
    np.testing.assert_allclose(parts, gradient, rtol=1e-5, atol=1e-7)
    assert (np.asarray(gradient)[4] == 0).all()
    assert metrics.keys() == of_mesh.keys() == {"loss/kind", "kind/top1"}
    assert float(of_mesh["kind/top1"]) == pytest.approx(float(metrics["kind/top1"]))
    assert float(whole) == pytest.approx(0.5 * float(metrics["loss/kind"]))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"label_smoothing must be at least 0 and less.*got 1\.0"):
        softmax_cross_entropy.Term(label_smoothing=1.0)
    with pytest.raises(ValueError, match="weight must be a finite number"):
        losses.LabelEntry(
            term=sigmoid_cross_entropy.Term(), classifier="k", modality="video", weight=-1.0
        )
