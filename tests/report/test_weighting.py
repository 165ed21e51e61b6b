import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.losses.terms import fine_grained_nce, info_nce, mil_nce, sparc
from fgmm.report.weighting import weights_of_phrases

SCORES = np.array([0.9, 0.1, -0.2], np.float32)


def softmax(temperature, scores=SCORES):
    e = np.exp(np.array(scores) / temperature)
    return e / e.sum()


@pytest.mark.parametrize(
    "term", [info_nce.Term(), sparc.Term(), fine_grained_nce.Term(), info_nce.Term(pool="max")]
)
def test_uniform(term):
    described, weights = weights_of_phrases(term, {}, SCORES, 10)
    assert described == "uniform"
    assert weights == pytest.approx([1 / 3] * 3)


def test_softmax_within_the_score():
    term = info_nce.Term(phrase_weights="softmax", phrase_temperature=0.3)
    described, weights = weights_of_phrases(term, {}, SCORES, 10)
    assert "temperature 0.3" in described
    assert weights == pytest.approx(softmax(0.3), rel=1e-5)


def test_shares_of_a_bag_are_those_of_its_gradient():
    term = mil_nce.Term(temperature=0.2)
    parameters = {"log_temperature": jnp.log(0.4)}
    described, weights = weights_of_phrases(term, parameters, SCORES, 10)
    assert "0.4" in described
    pooled = jax.grad(lambda s: 0.4 * jax.nn.logsumexp(s / 0.4))
    assert weights == pytest.approx(np.asarray(pooled(jnp.asarray(SCORES))), rel=1e-5)


@pytest.mark.parametrize(("step", "share"), [(100, 0.0), (250, 0.5), (400, 1.0)])
def test_annealed_weights_are_those_of_the_step(step, share):
    options = {"weights": "matched", "anneal_start": 200, "anneal_end": 300}
    term = fine_grained_nce.Term(weights_temperature=0.2, **options)
    described, weights = weights_of_phrases(term, {}, SCORES, step)
    assert described.startswith(f"{share:.0%} matched")
    assert weights == pytest.approx((1 - share) / 3 + share * softmax(0.2), rel=1e-5)


def test_a_null_slot_takes_its_share():
    term = fine_grained_nce.Term(weights="matched", weights_temperature=0.2, null_slot=True)
    described, weights = weights_of_phrases(term, {"null_score": jnp.float32(0.5)}, SCORES, 10)
    assert "null slot" in described
    assert weights == pytest.approx(softmax(0.2, [*SCORES, 0.5])[:3], rel=1e-5)
    assert weights.sum() < 0.95
