"""Wrong arguments of the losses are errors that name the argument, before anything is traced."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.losses import (
    attention_weights,
    clip_similarity,
    fine_grained_nce,
    gate_weights,
    info_nce,
    matched_weights,
    mil_nce,
    pooled_similarity,
    sigmoid,
    sparc,
)

B, N, P, D = 4, 5, 3, 6
X, Y = np.ones((B, N, D), np.float32), np.ones((B, P, D), np.float32)
X_MASK, Y_MASK = np.ones((B, N), bool), np.ones((B, P), bool)
S, BAGS = np.eye(B, dtype=np.float32), np.ones((B, B, P), np.float32)
SIMILARITIES = (pooled_similarity, clip_similarity, attention_weights)
CONTRASTS = (info_nce, sigmoid, mil_nce, fine_grained_nce, matched_weights)


def scores_for(contrast):
    return S if contrast in (info_nce, sigmoid) else BAGS


def needed_by(contrast):
    return {"bias": 0.0} if contrast is sigmoid else {}


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_embeddings_and_masks(similarity):
    for arguments, message in [
        ((X[0], Y), r"x must be \[.,N,D\]; got shape \(5, 6\)"),
        ((X, Y[:, 0]), r"y must be \[.,P,D\]; got shape \(4, 6\)"),
        ((X, Y[:, :, :4]), r"y must be \[.,P,D\] with D = 6 as in x; got \(4, 3, 4\)"),
        ((X.astype(int), Y), "x must be floating point; got int64"),
        ((X.tolist(), Y), r"x must be \[.,N,D\], an array; got list"),
        ((X, None), r"y must be \[.,P,D\], an array; got NoneType"),
        ((X, Y, X_MASK.astype(np.float32)), "x_mask must be bool; got float32: pass x_mask > 0"),
        ((X, Y, None, Y_MASK.astype(int)), "y_mask must be bool; got int64: pass y_mask > 0"),
        ((X, Y, X_MASK[:, :2]), r"x_mask must be \[.,N\] with N = 5 as in x; got \(4, 2\)"),
        ((X, Y, X_MASK[:2]), r"x_mask must be \[.,N\] with . = 4 as in x; got \(2, 5\)"),
        ((X, Y, None, Y_MASK[:, 0]), r"y_mask must be \[.,P\]; got shape \(4,\)"),
        ((X, Y, None, Y_MASK.T), r"y_mask must be \[.,P\] with . = 4 as in y; got \(3, 4\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            similarity(*arguments, pool="max")


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_temperatures_of_pools(similarity):
    for temperature in (0, -0.1, np.nan, jnp.float32(np.inf)):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0; got"):
            similarity(X, Y, pool="softmax", temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be a single number; got shape"):
        similarity(X, Y, pool="softmax", temperature=np.ones(N))
    for pool in ("softmax", "logsumexp"):
        with pytest.raises(ValueError, match=f"pool '{pool}' needs a temperature above 0"):
            similarity(X, Y, pool=pool)
    for pool in ("max", "mean", "sparc"):
        with pytest.raises(ValueError, match=f"pool '{pool}' has no temperature; leave"):
            similarity(X, Y, pool=pool, temperature=0.1)


def test_temperatures_and_gates_of_weights():
    for options, message in [
        ({"weighting": "softmax"}, "weighting 'softmax' needs a phrase_temperature above 0"),
        ({"phrase_temperature": 0.1}, "weighting 'uniform' has no temperature; leave phrase_temp"),
        (
            {"weighting": "softmax", "phrase_temperature": 0.0},
            r"phrase_temperature must be a finite number above 0; got 0\.0",
        ),
        ({"y_gate": Y_MASK}, "y_gate must be floating point; got bool"),
        (
            {"y_gate": Y[:, :2, 0]},
            r"y_gate must be \[c,P\] with P = 3 as in y; got \(4, 2\)",
        ),
        (
            {"x_gate": X[..., 0], "direction": "y_to_x"},
            "x_gate needs direction 'x_to_y' or 'symmetric'; got 'y_to_x'",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            clip_similarity(X, Y, pool="max", **options)
    with pytest.raises(ValueError, match="mask must be bool; got float32"):
        gate_weights(X[..., 0], X[..., 0])
    with pytest.raises(ValueError, match=r"mask must be \[\*rest,N\] with N = 5 as in gate"):
        gate_weights(X[..., 0], X_MASK[:, :2])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_scores_and_temperatures_of_contrasts(contrast):
    s, needed = scores_for(contrast), needed_by(contrast)
    axes = "b,C" if s is S else "b,C,."
    with pytest.raises(ValueError, match=rf"s must be \[{axes}\]; got shape \(4,\)"):
        contrast(s[0].ravel()[:B], temperature=0.1, **needed)
    with pytest.raises(ValueError, match="s must be floating point; got bool"):
        contrast(s > 0, temperature=0.1, **needed)
    for temperature in (0, -1, np.nan):
        with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
            contrast(s, temperature=temperature, **needed)
    with pytest.raises(ValueError, match="temperature must be a single number; got None"):
        contrast(s, temperature=None, **needed)
    if contrast is mil_nce:
        np.testing.assert_array_equal(contrast(s), contrast(s, temperature=1.0))
        return
    with pytest.raises(TypeError, match=f"{contrast.__name__}: missing .*'temperature'"):
        contrast(s, **needed)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_all_but_the_scores_is_given_by_name_in_one_order(contrast):
    order = ["temperature", "mask", "of its own", "valid", "reduction", "axis_name"]
    of_all = [name for name in order if name != "of its own"]
    (first, *others) = inspect.signature(contrast).parameters.values()
    assert first.name == "s"
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in others)
    places = [
        order.index(parameter.name if parameter.name in of_all else "of its own")
        for parameter in others
    ]
    assert places == sorted(places)
    with pytest.raises(TypeError, match=f"{contrast.__name__}: too many .* by name: temp"):
        contrast(scores_for(contrast), 0.1)


@pytest.mark.parametrize(
    ("contrast", "options", "message"),
    [
        (info_nce, {"valid": np.ones(B)}, "valid must be bool; got float64: pass valid > 0"),
        (sigmoid, {"valid": np.ones(3, bool)}, r"valid must be \[b\] with b = 4 as in s; got \(3,"),
        (sigmoid, {"bias": np.ones(B)}, r"bias must be a single number; got shape \(4,\)"),
        (mil_nce, {"mask": Y_MASK[:, 0]}, r"mask must be \[b,J\]; got shape \(4,\)"),
        (mil_nce, {"mask": Y_MASK[:, :2]}, r"mask must be \[b,J\] with J = 3 as in s; got \(4, 2"),
        (fine_grained_nce, {"mask": BAGS[0]}, "mask must be bool; got float32: pass mask > 0"),
        (
            fine_grained_nce,
            {"weights": S},
            r"weights must be \[b,P\] with P = 3 as in s; got \(4, ",
        ),
        (fine_grained_nce, {"phrase_ids": BAGS[0]}, "phrase_ids must be integers; got float32"),
        (matched_weights, {"mask": Y_MASK[:2]}, r"mask must be \[b,P\] with b = 4 as in s; got"),
    ],
)
def test_what_goes_with_scores(contrast, options, message):
    with pytest.raises(ValueError, match=message):
        contrast(scores_for(contrast), temperature=0.1, **{**needed_by(contrast), **options})


def test_sparc_names_its_arguments():
    for arguments, options, message in [
        ((X, Y[:2]), {}, r"y must be \[b,P,D\] with b = 4 as in x; got \(2, 3, 6\)"),
        ((X, Y, X_MASK * 1.0), {}, "x_mask must be bool; got float64"),
        ((X, Y), {"valid": np.ones(3, bool)}, r"valid must be \[b\] with b = 4 as in x"),
        ((X, Y), {"caption": Y_MASK}, "caption must be integers; got bool"),
        ((X, Y), {"temperature": 0.0}, "temperature must be a finite number above 0; got 0.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            sparc(*arguments, **{"temperature": 0.1, **options})
    with pytest.raises(TypeError, match="sparc: missing a required argument: 'temperature'"):
        sparc(X, Y)


def test_pooled_similarities_are_no_scores_of_captions():
    s = pooled_similarity(X, Y, pool="max")
    with pytest.raises(ValueError, match=r"s must be \[b,C\]; got shape \(4, 4, 3\)"):
        info_nce(s, temperature=0.1)


def test_a_traced_temperature_is_taken_as_it_is():
    """Its value is not known before the program runs."""
    loss = jax.jit(lambda t: info_nce(S, temperature=t))
    np.testing.assert_allclose(loss(0.1), info_nce(S, temperature=0.1), rtol=1e-6)
