"""The objective: its sum, its pairs and levels, the identity of phrases, and many devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgmm.losses import (
    Objective,
    TermEntry,
    clip_similarity,
    fine_grained_nce,
    info_nce,
    pooled_similarity,
    sharded,
)
from fgmm.losses.objective import phrase_identities
from fgmm.losses.terms import fine_grained_nce as fine_grained_nce_term
from fgmm.losses.terms import info_nce as info_nce_term
from fgmm.losses.terms import mil_nce as mil_nce_term
from fgmm.losses.terms import sigmoid as sigmoid_term
from fgmm.losses.terms import sparc as sparc_term

B, K, P, L, D = 8, 2, 3, 7, 6


class Embeddings(NamedTuple):
    local: Any
    mask: Any
    coarse: Any
    gates: Any = None


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def inputs(dtype=np.float32):
    """Embeddings of one space and a batch; clip 2 has no sound and clip 5 no captions."""
    rng = np.random.default_rng(0)
    phrase_ids = np.sort(rng.integers(0, P + 1, (B, K, L)))[:, :, ::-1]
    phrase_ids = np.where(phrase_ids > 0, P + 1 - phrase_ids, 0).astype(np.int32)
    phrase_ids[5] = 0
    tokens = rng.integers(1, 3, (B, K, L)).astype(np.int32)
    text_mask = np.stack([np.any(phrase_ids == p, axis=2) for p in range(1, P + 1)], axis=2)
    masks = {"video": (4,), "audio": (5,), "text": (K, P), "audio_segments": (1, P)}
    masks = {name: rng.random((B, *shape)) < 0.8 for name, shape in masks.items()}
    masks["text"] = text_mask
    masks["audio"][2] = masks["audio_segments"][2] = False
    space = {
        name: Embeddings(
            unit(rng, *mask.shape, D).astype(dtype),
            mask,
            unit(rng, *mask.shape[:-1], D).astype(dtype),
        )
        for name, mask in masks.items()
    }
    batch = {"tokens": tokens, "phrase_ids": phrase_ids}
    return jax.tree.map(jnp.asarray, ({"joint": space}, batch))


def everything():
    """Every term, pair and level at once."""
    fine = {"level": "fine", "space": "joint"}
    symmetric = info_nce_term.Term(pool="logsumexp", direction="symmetric", weighting="softmax")
    matched = fine_grained_nce_term.Term(
        learn_attention_temperature=True, weights="matched", null_slot=True, anneal_end=10
    )
    return Objective(
        {
            "nce": TermEntry(term=symmetric, pair="video_text", weight=0.5, **fine),
            "phrases": TermEntry(term=matched, pair="video_text", weight=2.0, **fine),
            "sparse": TermEntry(term=sparc_term.Term(), pair="video_text", **fine),
            "sound": TermEntry(term=mil_nce_term.Term(pool="sparc"), pair="video_audio", **fine),
            "speech": TermEntry(term=sigmoid_term.Term(pool="max"), pair="audio_text", **fine),
            "whole": TermEntry(
                term=info_nce_term.Term(), pair="video_text", level="coarse", space="joint"
            ),
        }
    )


def test_the_loss_is_the_weighted_sum_of_its_terms():
    objective = everything()
    parameters = objective.init()
    embeddings, batch = inputs()
    loss, metrics = jax.jit(objective)(parameters, embeddings, batch, 5)
    weights = {name: entry.weight for name, entry in objective.terms.items()}
    expected = sum(weight * metrics[f"loss/{name}"] for name, weight in weights.items())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert {name.split("/")[0] for name in metrics} == {*weights, "loss"}
    assert {"whole/temperature", "phrases/matched_share", "nce/top1"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())


def test_pairs_and_levels_are_folded_for_the_terms():
    """Fine: [B,N,D] against [C,K·P,D]. Coarse: [B,1,D] against [C,K,D]. Same phrases are known."""
    embeddings, batch = inputs()
    video, text = embeddings["joint"]["video"], embeddings["joint"]["text"]
    term = fine_grained_nce_term.Term(temperature=0.1, learn_temperature=False)
    coarse_term = info_nce_term.Term(temperature=0.1, learn_temperature=False)
    pair = {"pair": "video_text", "space": "joint"}
    objective = Objective(
        {
            "fine": TermEntry(term=term, level="fine", **pair),
            "coarse": TermEntry(term=term, level="coarse", **pair),
            "clip": TermEntry(term=coarse_term, level="coarse", **pair),
        }
    )
    _, metrics = jax.jit(objective)(objective.init(), embeddings, batch, 0)

    y, y_mask = text.local.reshape(B, K * P, D), text.mask.reshape(B, K * P)
    s = pooled_similarity(video.local, y, video.mask, y_mask, pool="softmax", temperature=0.1)
    valid = video.mask.any(1) & y_mask.any(1)
    options = {"temperature": 0.1, "valid": valid}
    ids = phrase_identities(batch["tokens"], batch["phrase_ids"], P)
    expected = fine_grained_nce(s.values, mask=y_mask, phrase_ids=ids, **options)
    np.testing.assert_allclose(metrics["loss/fine"], expected, rtol=1e-6)
    assert expected < fine_grained_nce(s.values, mask=y_mask, **options)

    s = np.einsum("bd,ckd->bck", video.coarse, text.coarse)
    ids = phrase_identities(batch["tokens"], batch["phrase_ids"], None)
    expected = fine_grained_nce(s, mask=text.mask.any(2), phrase_ids=ids, **options)
    np.testing.assert_allclose(metrics["loss/coarse"], expected, rtol=1e-5)
    S = clip_similarity(video.coarse[:, None], text.coarse, None, text.mask.any(2), pool="mean")
    np.testing.assert_allclose(metrics["loss/clip"], info_nce(S, **options), rtol=1e-5)


def test_a_clip_without_a_modality_is_as_if_absent_from_its_pairs():
    """Clip 2 has no sound, clip 5 no captions: without both, audio_text is the same."""
    objective = everything()
    embeddings, batch = inputs()
    parameters = objective.init()
    compute = jax.jit(objective)
    _, metrics = compute(parameters, embeddings, batch, 5)
    present = np.array([0, 1, 3, 4, 6, 7])
    fewer = jax.tree.map(lambda array: array[present], (embeddings, batch))
    _, expected = compute(parameters, *fewer, 5)
    np.testing.assert_allclose(metrics["loss/speech"], expected["loss/speech"], rtol=1e-5)
    assert metrics["loss/nce"] != expected["loss/nce"]


def test_eight_devices_compute_what_one_does():
    objective = everything()
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    by_clip = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    with jax.enable_x64(True):
        embeddings, batch = inputs(np.float64)
        parameters = jax.tree.map(lambda p: p.astype(jnp.float64), objective.init())
        vectors = {name: (e.local, e.coarse) for name, e in embeddings["joint"].items()}
        masks = {name: e.mask for name, e in embeddings["joint"].items()}

        def value_and_gradients(objective, parameters, vectors, masks, batch):
            def loss(parameters, vectors):
                embeddings = {
                    name: Embeddings(vectors[name][0], masks[name], vectors[name][1])
                    for name in vectors
                }
                return objective(parameters, {"joint": embeddings}, batch, 5)

            return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(parameters, vectors)

        compute = jax.jit(value_and_gradients, static_argnums=0)
        one = compute(objective, parameters, vectors, masks, batch)
        many = compute(
            sharded(objective, mesh, replicated=(0, 3)),
            jax.device_put(parameters, everywhere),
            *jax.device_put((vectors, masks, batch), by_clip),
        )
    assert {"whole/top1", "phrases/null_weight", "loss/sparse"} <= set(many[0][1])
    assert not many[1][1]["video"][0].sharding.is_fully_replicated
    for alone, together in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-12)


token_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, P)), min_size=L, max_size=L)


@settings(max_examples=60, deadline=None)
@given(st.lists(token_rows, min_size=2, max_size=4))
def test_identities_are_equal_exactly_for_equal_phrases(captions):
    rows = np.array(captions, np.int32)
    tokens, phrase_ids = rows[:, None, :, 0], rows[:, None, :, 1]
    found = np.asarray(phrase_identities(tokens, phrase_ids, P)).ravel()
    phrases = [
        tuple(token for token, phrase in caption if phrase == p)
        for caption in captions
        for p in range(1, P + 1)
    ]
    whole = [tuple(token for token, phrase in caption if phrase > 0) for caption in captions]
    found_whole = np.asarray(phrase_identities(tokens, phrase_ids, None)).ravel()
    for numbers, words in ((found, phrases), (found_whole, whole)):
        equal = np.array([[one == other for other in words] for one in words])
        np.testing.assert_array_equal(numbers[:, None] == numbers[None, :], equal)


def test_identities_seldom_collide():
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 8000, (4096, 1, 3)).astype(np.int32)
    distinct = len(np.unique(tokens, axis=0))
    identities = phrase_identities(tokens, np.ones_like(tokens), 1)
    assert len(np.unique(identities)) >= distinct - 1


def test_wrong_entries_and_missing_embeddings_are_named():
    term = info_nce_term.Term()
    where = {"pair": "video_text", "level": "fine", "space": "joint"}
    for option, value in [("pair", "text_video"), ("level", "middle"), ("weight", -1.0)]:
        with pytest.raises(ValueError, match=f"{option} must be"):
            TermEntry(term=term, **{**where, option: value})
    with pytest.raises(
        ValueError, match=r"level of fgmm\.losses\.terms\.sparc must be one of fine"
    ):
        TermEntry(term=sparc_term.Term(), **{**where, "level": "coarse"})
    with pytest.raises(ValueError, match="got 'a/b'"):
        Objective({"a/b": TermEntry(term=term, **where)})
    embeddings, batch = inputs()
    objective = Objective({"nce": TermEntry(term=term, **{**where, "space": "other"})})
    with pytest.raises(ValueError, match="'nce' needs embeddings other/video; there are joint/aud"):
        objective(objective.init(), embeddings, batch, 0)
