"""What terms say of themselves: how much phrases count, and how they look at their clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.losses import Attention, Side, Term
from fgmm.losses.terms import fine_grained_nce, info_nce, mil_nce, sigmoid, sparc

SCORES = jnp.float32([0.9, 0.1, -0.2])


def softmax(temperature, scores=SCORES):
    e = np.exp(np.array(scores) / temperature)
    return e / e.sum()


@pytest.mark.parametrize(
    "term", [info_nce.Term(), sparc.Term(), fine_grained_nce.Term(), info_nce.Term(pool="max")]
)
def test_uniform(term):
    weights, described = term.phrase_weights({}, SCORES, step=10)
    assert described == "uniform"
    assert weights == pytest.approx([1 / 3] * 3)


def test_softmax_within_the_score():
    term = info_nce.Term(weighting="softmax", phrase_temperature=0.3)
    weights, described = term.phrase_weights({}, SCORES, step=10)
    assert "temperature 0.3" in described
    assert weights == pytest.approx(softmax(0.3), rel=1e-5)


def test_shares_of_a_bag_are_those_of_its_gradient():
    term = mil_nce.Term(temperature=0.2)
    parameters = {"log_temperature": jnp.log(0.4)}
    weights, described = term.phrase_weights(parameters, SCORES, step=10)
    assert "0.4" in described
    pooled = jax.grad(lambda s: 0.4 * jax.nn.logsumexp(s / 0.4))
    assert weights == pytest.approx(np.asarray(pooled(jnp.asarray(SCORES))), rel=1e-5)


@pytest.mark.parametrize(("step", "share"), [(100, 0.0), (250, 0.5), (400, 1.0)])
def test_annealed_weights_are_those_of_the_step(step, share):
    options = {"weights": "matched", "anneal_start": 200, "anneal_end": 300}
    term = fine_grained_nce.Term(weights_temperature=0.2, **options)
    weights, described = term.phrase_weights({}, SCORES, step=step)
    assert described.startswith(f"{share:.0%} matched")
    assert weights == pytest.approx((1 - share) / 3 + share * softmax(0.2), rel=1e-5)


def test_a_null_slot_takes_its_share():
    term = fine_grained_nce.Term(weights="matched", weights_temperature=0.2, null_slot=True)
    weights, described = term.phrase_weights({"null_score": jnp.float32(0.5)}, SCORES, step=10)
    assert "null slot" in described
    assert weights == pytest.approx(softmax(0.2, [*SCORES, 0.5])[:3], rel=1e-5)
    assert weights.sum() < 0.95


def test_a_term_that_does_not_say_has_no_attention_and_no_weights():
    """In direction x_to_y local embeddings attend over phrases, and no phrase over anything."""
    for term in (Term(), info_nce.Term(direction="x_to_y"), sigmoid.Term(direction="x_to_y")):
        assert term.attention(term.init()) is None
        assert term.phrase_weights(term.init(), SCORES, step=0) is None


def test_attention_has_the_temperature_as_learned():
    options = {"learn_attention_temperature": True, "attention_temperature": 0.2}
    term = info_nce.Term(pool="logsumexp", **options)
    assert str(term.attention(term.init())) == "pool logsumexp at temperature 0.2"
    attention = term.attention({"log_attention_temperature": jnp.log(0.05)})
    assert attention.pool == "logsumexp"
    assert attention.temperature == pytest.approx(0.05)
    assert str(info_nce.Term(pool="max").attention({})) == "pool max"
    assert sparc.Term().attention({}) == Attention("sparc")


def test_attention_is_over_the_own_clip():
    rng = np.random.default_rng(0)
    x, y = (jnp.float32(rng.normal(size=shape)) for shape in ((2, 4, 3), (2, 2, 3)))
    mask = jnp.array([[True, True, False, True], [False] * 4])
    everything = jnp.ones((2, 2), bool)
    weights, scores = Attention("softmax", 0.5)(Side(x, mask), Side(y, everything))
    a = np.einsum("nd,pd->np", x[0], y[0])[[0, 1, 3]]
    expected = np.exp(a / 0.5) / np.exp(a / 0.5).sum(0)
    np.testing.assert_allclose(weights[0, [0, 1, 3]], expected, rtol=1e-5)
    np.testing.assert_allclose(scores[0], (expected * a).sum(0), rtol=1e-5)
    for nothing in (weights[0, 2], weights[1], scores[1]):
        assert not np.any(nothing)
