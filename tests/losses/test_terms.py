"""Terms: their options, their learned parameters and what they make of the pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.losses import Side, fine_grained_nce, info_nce, matched_weights, mil_nce, sigmoid
from fgmm.losses import similarity as similarities
from fgmm.losses.terms import fine_grained_nce as fine_grained_nce_term
from fgmm.losses.terms import info_nce as info_nce_term
from fgmm.losses.terms import mil_nce as mil_nce_term
from fgmm.losses.terms import sigmoid as sigmoid_term
from fgmm.losses.terms import sparc as sparc_term
from tests.losses.loss_definition import weighting_options

TERMS = {
    "info_nce": info_nce_term.Term,
    "sigmoid": sigmoid_term.Term,
    "mil_nce": mil_nce_term.Term,
    "fine_grained_nce": fine_grained_nce_term.Term,
    "sparc": sparc_term.Term,
}
B, N, P, D = 4, 5, 3, 6


@pytest.fixture(scope="module")
def sides():
    """Unit vectors; clip 1 has no caption."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(B, entries, D)) for entries in (N, P))
    x_mask, y_mask = rng.random((B, N)) < 0.8, rng.random((B, P)) < 0.8
    x_mask[:, 0] = y_mask[:, 0] = True
    y_mask[1] = False
    x, y = (jnp.float32(v / np.linalg.norm(v, axis=2, keepdims=True)) for v in (x, y))
    return Side(x, jnp.array(x_mask)), Side(y, jnp.array(y_mask))


def matched_sides(sides, sign=1):
    """Phrases that are what their clip, or all others, show."""
    x, y = sides
    return x, Side(sign * jnp.broadcast_to(x.local[:, :1], y.local.shape), jnp.ones((B, P), bool))


def pool(x, y, **options):
    return similarities.pooled_similarity(x.local, y.local, x.mask, y.mask, **options)


def test_terms_are_their_loss_on_their_similarity(sides):
    x, y = sides
    valid = np.array([True, False, True, True])
    pooling = {"pool": "logsumexp", "temperature": 0.2}
    options = {"pool": "logsumexp", "attention_temperature": 0.2, "temperature": 0.05}
    s = pool(x, y, **pooling)
    scoring = {"direction": "symmetric", "weighting": "softmax", "phrase_temperature": 0.3}
    S = similarities.clip_similarity(x.local, y.local, x.mask, y.mask, **pooling, **scoring)
    contrast = {"temperature": 0.05, "valid": valid}
    expected = {
        "info_nce": info_nce(S.values, **contrast),
        "sigmoid": sigmoid(S.values, bias=-2.0, **contrast),
        "mil_nce": mil_nce(s.values, mask=y.mask, count_positives_twice=False, **contrast),
        "fine_grained_nce": fine_grained_nce(s.values, mask=y.mask, **contrast),
    }
    terms = {
        "info_nce": info_nce_term.Term(**options, **scoring),
        "sigmoid": sigmoid_term.Term(**options, **scoring, bias=-2.0),
        "mil_nce": mil_nce_term.Term(**options, count_positives_twice=False),
        "fine_grained_nce": fine_grained_nce_term.Term(**options),
    }
    for name, term in terms.items():
        loss, metrics = term(term.init(), x, y, step=0)
        np.testing.assert_allclose(loss, expected[name], rtol=1e-5)
        np.testing.assert_allclose(metrics["temperature"], 0.05, rtol=1e-6)
        np.testing.assert_allclose(metrics["attention_temperature"], 0.2, rtol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_learned_parameters_have_gradients_and_the_score_ranks(sides, name):
    term = TERMS[name]()
    parameters = term.init()
    assert "log_temperature" in parameters
    # Of phrases that differ: between equal ones, no temperature makes a difference.
    gradients, metrics = jax.jit(
        jax.grad(lambda parameters: term(parameters, *sides, step=3), has_aux=True)
    )(parameters)
    x, y = matched_sides(sides)
    assert jax.tree.structure(gradients) == jax.tree.structure(parameters)
    assert all(gradient != 0 for gradient in gradients.values())
    assert all(jnp.shape(value) == () for value in metrics.values())
    s = term.score(parameters, x, y).values
    # Phrases fit best where they come from, if not all of them for so wide a pool as SPARC's.
    assert np.mean(jnp.argmax(s, axis=0) == np.arange(B)) >= (0.75 if name == "sparc" else 1)
    # B and C may differ, and neither matters to a score.
    part = Side(y.local[1:3], y.mask[1:3])
    np.testing.assert_allclose(term.score(parameters, x, part).values, s[:, 1:3], atol=1e-6)


def test_fixed_temperatures_are_no_parameters():
    term = sigmoid_term.Term(learn_temperature=False, learn_bias=False)
    assert term.init() == {}
    assert set(info_nce_term.Term(learn_attention_temperature=True).init()) == {
        "log_temperature",
        "log_attention_temperature",
    }


def test_learned_temperatures_stay_in_their_bounds(sides):
    term = info_nce_term.Term(min_temperature=0.05, max_temperature=0.5)
    for log_temperature, bound in [(-9.0, 0.05), (9.0, 0.5)]:
        _, metrics = term({"log_temperature": jnp.float32(log_temperature)}, *sides, step=0)
        np.testing.assert_allclose(metrics["temperature"], bound, rtol=1e-6)


def test_top1_is_measured_over_valid_clips_and_ties_are_errors(sides):
    term = info_nce_term.Term(pool="max")
    assert term(term.init(), *matched_sides(sides), step=0)[1]["top1"] > 0.8
    assert term(term.init(), *matched_sides(sides, sign=-1), step=0)[1]["top1"] < 0.5
    x, y = sides
    nothing = Side(jnp.zeros_like(x.local), x.mask), Side(jnp.zeros_like(y.local), y.mask)
    assert term(term.init(), *nothing, step=0)[1]["top1"] == 0


def test_weights_are_annealed_from_uniform_to_matched(sides):
    x, y = sides
    options = {"attention_temperature": 0.1, "learn_temperature": False, "temperature": 0.1}
    term = fine_grained_nce_term.Term(
        weights="matched", weights_temperature=0.2, anneal_start=10, anneal_end=30, **options
    )
    uniform = fine_grained_nce_term.Term(**options)({}, x, y, step=0)[0]
    s = pool(x, y, pool="softmax", temperature=0.1)
    weights = matched_weights(s, temperature=0.2)
    matched = fine_grained_nce(s, temperature=0.1, weights=weights)
    assert abs(matched - uniform) > 1e-3
    for step, share in [(0, 0), (10, 0), (20, 0.5), (30, 1), (1000, 1)]:
        loss, metrics = jax.jit(lambda step: term({}, x, y, step=step))(step)
        assert metrics["matched_share"] == share
        np.testing.assert_allclose(loss, (1 - share) * uniform + share * matched, rtol=1e-5)
    at_once = fine_grained_nce_term.Term(weights="matched", weights_temperature=0.2, **options)
    np.testing.assert_allclose(at_once({}, x, y, step=0)[0], matched, rtol=1e-5)


def test_the_null_slot_grows_while_phrases_fit_worse_than_guessing(sides):
    term = fine_grained_nce_term.Term(weights="matched", null_slot=True, pool="max")
    parameters = term.init()

    def slope(sign):
        def loss(parameters):
            return term(parameters, *matched_sides(sides, sign), step=0)

        gradients, metrics = jax.grad(loss, has_aux=True)(parameters)
        assert 0 < metrics["null_weight"] < 1
        return gradients["null_score"]

    assert slope(sign=1) > 0  # descent lowers the score
    assert slope(sign=-1) < 0
    no_phrase_counts = {**parameters, "null_score": jnp.float32(100)}
    loss, metrics = term(no_phrase_counts, *matched_sides(sides), step=0)
    guessing = (np.log(B) + np.log(1 + (B - 1) * P)) / 2
    np.testing.assert_allclose(metrics["null_weight"], 1)
    np.testing.assert_allclose(loss, guessing, rtol=1e-5)


@pytest.mark.parametrize("name", ["info_nce", "fine_grained_nce"])
def test_the_noise_rate_is_learned(sides, name):
    term = TERMS[name](noise_rate=0.25, pool="max", temperature=0.02)
    parameters = term.init()

    def slope(sign, share):
        def loss(parameters):
            return term(parameters, *matched_sides(sides, sign), step=0)

        gradients, metrics = jax.grad(loss, has_aux=True)(parameters)
        np.testing.assert_allclose(metrics["noise_rate"], share, rtol=1e-6)
        return gradients["noise_rate_logit"]

    assert slope(sign=1, share=0.25) > 0  # descent lowers the share
    assert slope(sign=-1, share=0.25) < 0
    parameters["noise_rate_logit"] = jnp.float32(100)
    assert slope(sign=1, share=0.999) > 0  # it can come back


def test_same_phrases_are_negatives_on_request_only(sides):
    x, y = sides
    ids = jnp.arange(B * P).reshape(B, P).at[2, 0].set(0)
    default, with_negatives = (
        fine_grained_nce_term.Term(same_phrase_negatives=wanted) for wanted in (False, True)
    )
    parameters = default.init()
    known = default(parameters, x, y, phrase_ids=ids, step=0)[0]
    unknown = default(parameters, x, y, step=0)[0]
    assert known < unknown
    assert with_negatives(parameters, x, y, phrase_ids=ids, step=0)[0] == unknown


def test_sparc_contrasts_within_a_caption(sides):
    x, y = sides
    term = sparc_term.Term()
    alone = Side(y.local, y.mask, caption=jnp.broadcast_to(jnp.arange(P), (B, P)))
    assert term(term.init(), x, alone, step=0)[0] == 0
    assert term(term.init(), x, y, step=0)[0] > 0


def test_learned_weights_are_those_of_the_gates(sides):
    rng = np.random.default_rng(3)
    x, y = (side._replace(gate=jnp.float32(rng.normal(size=side.mask.shape))) for side in sides)
    pooling = {"pool": "logsumexp", "temperature": 0.2, "direction": "symmetric"}
    term_options = {"pool": "logsumexp", "attention_temperature": 0.2, "direction": "symmetric"}
    gates = {"x_gate": x.gate, "y_gate": y.gate}
    for options, names, weighting in (
        ({"weighting": "learned"}, ("x_gate", "y_gate"), "uniform"),
        ({"weighting": "learned", "local_weighting": "uniform"}, ("y_gate",), "uniform"),
        ({"weighting": "softmax", "local_weighting": "learned"}, ("x_gate",), "softmax"),
    ):
        term = info_nce_term.Term(**term_options, **options, phrase_temperature=0.3)
        assert term.gated_sides == tuple(name[0] for name in names)
        expected = similarities.clip_similarity(
            *(x.local, y.local, x.mask, y.mask),
            **{name: gates[name] for name in names},
            **pooling,
            **weighting_options(weighting, 0.3),
        )
        found = term.score(term.init(), x, y).values
        np.testing.assert_allclose(found, expected.values, atol=1e-6)
    for direction, gated in (("y_to_x", ("y",)), ("x_to_y", ("x",))):
        assert sigmoid_term.Term(direction=direction, weighting="learned").gated_sides == gated
    with pytest.raises(ValueError, match="weighting 'learned' needs a gate; side x has none"):
        term.score(term.init(), *sides)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("info_nce", {"pool": "median"}, "pool must be one of softmax, .* got 'median'"),
        ("info_nce", {"direction": "both"}, "direction must be one of y_to_x, .* got 'both'"),
        ("info_nce", {"weighting": "idf"}, "weighting must be one of uniform, softmax"),
        (
            "info_nce",
            {"local_weighting": "learned"},
            "local_weighting 'learned' needs direction 'x_to_y' or 'symmetric'; got 'y_to_x'",
        ),
        (
            "sigmoid",
            {"direction": "x_to_y", "weighting": "learned", "local_weighting": "learned"},
            "weighting 'learned' beside local_weighting needs direction 'symmetric'; got 'x_to_y'",
        ),
        (
            "info_nce",
            {"direction": "symmetric", "weighting": "softmax", "local_weighting": "uniform"},
            "sides without a gate have weights of one kind; got weighting 'softmax' and",
        ),
        ("sparc", {"temperature": 0.0}, "temperature must be a finite number above 0; got 0.0"),
        ("sparc", {"temperature": 2.0}, "temperature is learned and must be within .* got 2.0"),
        (
            "mil_nce",
            {"pool": "max", "learn_attention_temperature": True},
            "pool, with learn_attention_temperature, must be one of softmax, logsumexp; got 'max'",
        ),
        ("info_nce", {"noise_rate": 1.0}, r"noise_rate must be 0, or from 0\.001 to 0\.999; got 1"),
        ("fine_grained_nce", {"weights": "idf"}, "weights must be one of uniform, matched"),
        ("fine_grained_nce", {"null_slot": True}, "null_slot and annealing belong to .*'matched'"),
        (
            "fine_grained_nce",
            {"weights": "matched", "anneal_start": 5},
            "anneal_start must be .* at most anneal_end; got 5 and 0",
        ),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        TERMS[name](**options)
