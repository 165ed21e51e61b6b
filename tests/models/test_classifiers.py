from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.models import classifiers
from fgmm.models.classifiers import ClassifierHead
from fgmm.models.embeddings import Tokens

TOKENS = Tokens(
    local=jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 6)), jnp.float32),
    mask=jnp.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool),
    grid=(4,),
    coarse=jnp.ones((3, 6)),
)


def variables(head, bias=1.0):
    """Random weights in the place of the zeros at the start."""
    found = head.init(jax.random.key(0), TOKENS, False)["params"]
    assert not np.asarray(found["logits"]["kernel"]).any()
    rng = np.random.default_rng(1)
    kernel = jnp.asarray(rng.normal(size=found["logits"]["kernel"].shape), jnp.float32)
    return {"params": {"logits": {"kernel": kernel, "bias": jnp.full(5, bias)}}}


@pytest.mark.parametrize("pool", ["mean", "max", "own"])
def test_it_is_linear_over_the_pooled_valid_features(pool):
    head = ClassifierHead("video", 5, pool=pool)
    weights = variables(head)
    kernel = np.asarray(weights["params"]["logits"]["kernel"])
    local, mask = np.asarray(TOKENS.local), np.asarray(TOKENS.mask)
    how = {"mean": lambda x: x.mean(axis=0), "max": lambda x: x.max(axis=0)}
    pooled = [
        np.zeros(6) if not m.any() else np.ones(6) if pool == "own" else how[pool](x[m])
        for x, m in zip(local, mask, strict=True)
    ]
    found = head.apply(weights, TOKENS, False)
    np.testing.assert_allclose(found, np.stack(pooled) @ kernel + 1, rtol=1e-5, atol=1e-5)


def test_dropout_is_of_training_alone():
    head = ClassifierHead("video", 5, dropout=0.5)
    weights = variables(head)
    tested = head.apply(weights, TOKENS, False)
    keys = [{"dropout": jax.random.key(n)} for n in (1, 1, 2)]
    one, again, other = (head.apply(weights, TOKENS, True, rngs=key) for key in keys)
    assert (one == again).all()
    assert not (one[:2] == other[:2]).all()
    assert not (one[:2] == tested[:2]).all()


ENTRY = {"modality": "video", "classes": ("a", "b"), "pool": "mean", "dropout": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"modality": "audio"},
            r"classifiers\.kind\.modality='audio' has no encoder; .* video, text",
        ),
        ({"classes": ("a",)}, r"classes must name at least two classes, each once; got 1, 1 of"),
        ({"classes": ("a", "b", "a")}, r"got 3, 2 of them different"),
        ({"pool": "sum"}, r"classifiers\.kind\.pool='sum' is unknown; allowed: mean, max, own"),
        ({"dropout": 1.0}, r"classifiers\.kind\.dropout=1\.0 must be at least 0 and below 1"),
        ({"width": 3}, r"model\.classifiers\.kind\.width=3 is unknown"),
    ],
)
def test_wrong_options_are_named(changes, message):
    assert classifiers.checked({"kind": ENTRY}, ("video", "text")) == {"kind": ENTRY}
    with pytest.raises(ConfigError, match=message):
        classifiers.checked({"kind": {**ENTRY, **changes}}, ("video", "text"))


class Corpus:
    classes: ClassVar = {"kind": ("a", "c"), "more": ("a", "b", "c")}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("none", r"data\.label='none' is unknown to data\.source; it has: kind, more"),
        ("kind", r"2 classes of 'kind' .* the first that differ, number 1, are 'c' and 'b'"),
        ("more", r"3 classes of 'more' and .* 2; .* number 2, are 'c' and missing"),
    ],
)
def test_a_corpus_of_other_classes_is_not_trained_on(label, message):
    with pytest.raises(ConfigError, match=message):
        classifiers.check_classes({"kind": ENTRY}, Corpus(), label)
