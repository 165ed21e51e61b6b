"""Negatives that are chosen or drawn: which they are, on any devices, and the losses of them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from fgmm.losses import (
    Objective,
    Scores,
    Side,
    TermEntry,
    clip_keys,
    hardest_candidates,
    importance_candidates,
    sampled_phrases,
    sharded,
)
from fgmm.losses.terms import info_nce, sigmoid

B, N, K, P, D = 16, 4, 2, 3, 6
TAU = 0.2


def mesh():
    return Mesh(np.array(jax.devices()[:8]), ("data",))


def coarse_scores(dtype=np.float32):
    """Rounded, so that many are equal; clip 3 and caption 5 are not valid."""
    S = np.round(np.random.default_rng(0).normal(size=(B, B)), 1).astype(dtype)
    return Scores(jnp.asarray(S), jnp.arange(B) != 3, jnp.arange(B) != 5)


def defined_hardest(S, valid, k, tau):
    """By sorting, a clip at a time; -1 for a slot without a caption."""
    column = tau * np.log(np.sum(np.where(valid[:, None], np.exp(S / tau), 0), axis=0))
    found = np.full((B, k), -1)
    for b in np.flatnonzero(valid):
        others = [c for c in np.flatnonzero(valid) if c != b]
        by_row = sorted(others, key=lambda c: (-S[b, c], c))[: k // 2]
        rest = [c for c in others if c not in by_row]
        by_column = sorted(rest, key=lambda c: (column[c] - S[b, c], c))[: k - 1 - k // 2]
        # What neither half has room for stays out, also if slots are left.
        row = [b, *by_row, *by_column]
        found[b, : len(row)] = row
    return found


def over_devices(choose, scores, *arguments):
    by_clip = PartitionSpec("data")
    specs = (jax.tree.map(lambda _: by_clip, scores), *(PartitionSpec() for _ in arguments))
    return jax.jit(jax.shard_map(choose, mesh=mesh(), in_specs=specs, out_specs=by_clip))(
        scores, *arguments
    )


def test_the_hardest_are_those_of_rows_and_columns():
    with jax.enable_x64(True):
        scores = coarse_scores(np.float64)
        S, valid = np.asarray(scores.values), np.asarray(scores.valid)
        for k in (1, 2, 7, B):
            found = np.asarray(hardest_candidates(scores, k=k, temperature=TAU))
            expected = defined_hardest(S, valid, k, TAU)
            for row, wanted in zip(np.where(found < B, found, -1), expected, strict=True):
                assert sorted(row) == sorted(wanted)
            assert all(len(set(row)) == k for row in found.tolist())
        choose = functools.partial(hardest_candidates, k=7, temperature=TAU)
        many = over_devices(functools.partial(choose, axis_name="data"), scores)
        np.testing.assert_array_equal(many, choose(scores))


def test_more_candidates_than_captions_are_refused():
    with pytest.raises(ValueError, match="candidates must be from 1 to the 16 captions; got 17"):
        hardest_candidates(coarse_scores(), k=17, temperature=TAU)
    with pytest.raises(ValueError, match="candidates must be from 1 to the 16 captions; got 0"):
        draw(coarse_scores(), jax.random.key(0), k=0)
    with pytest.raises(ValueError, match="phrases must be from 1 to the 3 of a caption; got 4"):
        sampled_phrases(jnp.ones((B, P), bool), m=4, keys=clip_keys(jax.random.key(0), B))


def test_equal_scores_give_the_lower_numbers():
    found = hardest_candidates(jnp.zeros((5, 5)), k=3, temperature=TAU)
    np.testing.assert_array_equal(found, [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1]])


def draw(scores, key, k=5, axis_name=None):
    keys = clip_keys(key, len(scores.values), axis_name)
    options = {"k": k, "temperature": TAU, "keys": keys, "axis_name": axis_name}
    return importance_candidates(scores, **options)


def test_sums_over_what_is_drawn_are_unbiased():
    """Of rows and of columns; within five standard errors, for fixed seeds."""
    scores = coarse_scores()
    scores = Scores(scores.values / 2, scores.x_valid, scores.y_valid)
    values = jnp.exp(jnp.asarray(np.random.default_rng(1).normal(size=(B, B)), jnp.float32))
    rows = jnp.arange(B)[:, None]

    @jax.jit
    @jax.vmap
    def estimates(key):
        candidates, counts = draw(scores, key)
        placed = jnp.zeros((B, B)).at[rows, candidates].set(counts, mode="drop")
        negatives = jnp.where(jnp.eye(B, dtype=bool), 0, placed * values)
        return jnp.stack([negatives.sum(1), negatives.sum(0)])

    found = np.asarray(estimates(jax.random.split(jax.random.key(0), 4000)), np.float64)
    there = (
        np.asarray(scores.valid)[:, None] & np.asarray(scores.valid)[None] & ~np.eye(B, dtype=bool)
    )
    exact = np.where(there, values, 0)
    error = found.mean(0) - np.stack([exact.sum(1), exact.sum(0)])
    assert np.all(np.abs(error) <= 5 * found.std(0) / len(found) ** 0.5)
    assert found.std(0).max() > 1


def test_draws_are_the_same_on_every_number_of_devices():
    scores, key = coarse_scores(), jax.random.key(3)
    candidates, counts = draw(scores, key)
    many = over_devices(functools.partial(draw, axis_name="data"), scores, key)
    np.testing.assert_array_equal(many[0], candidates)
    np.testing.assert_allclose(many[1], counts, rtol=1e-6)
    assert np.any(np.asarray(counts) > 1.5)
    # Of all captions, all are drawn and count once; another key draws others.
    everything, once = draw(scores, key, k=B)
    valid = np.asarray(scores.valid)
    assert np.all(np.sort(everything)[valid][:, : valid.sum()] == np.flatnonzero(valid))
    np.testing.assert_array_equal(once, np.ones((B, B)))
    assert np.any(draw(scores, jax.random.key(4))[0] != candidates)


def test_phrases_are_drawn_among_valid_ones():
    mask = jnp.array([[True, True, True, False], [False, True, False, False], [False] * 4])
    keys = jax.random.split(jax.random.key(0), 600).reshape(200, 3)
    drawn = np.asarray(jax.vmap(lambda keys: sampled_phrases(mask, m=2, keys=keys))(keys))
    assert np.all(drawn[:, 0] < 3)
    assert np.all(drawn[:, 1, 0] == 1)
    share = np.bincount(drawn[:, 0].ravel(), minlength=3) / 200
    np.testing.assert_allclose(share, 2 / 3, atol=0.1)


class Head(NamedTuple):
    local: Any
    mask: Any
    coarse: Any
    gates: Any = None


def inputs(dtype):
    """Heads and words of two captions a clip; clip 2 has no pictures, clip 7 no words."""
    rng = np.random.default_rng(0)

    def unit(*shape):
        v = rng.normal(size=shape)
        return jnp.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True), dtype)

    masks = rng.random((B, N)) < 0.8, rng.random((B, K, P)) < 0.8
    masks[0][2] = masks[1][7] = False
    video, text = (
        Head(
            unit(*mask.shape, D),
            jnp.asarray(mask),
            coarse,
            jnp.asarray(rng.normal(size=mask.shape), dtype),
        )
        for mask, coarse in zip(masks, (unit(B, D), unit(B, K, D)), strict=True)
    )
    words = jnp.ones((B, K, 4), jnp.int32)
    return {"video": video, "text": text}, {"tokens": words, "phrase_ids": words}


PLACE = {"pair": "video_text", "space": "joint"}
POOLING = {"pool": "logsumexp", "temperature": 0.1}
GATED = {**POOLING, "direction": "symmetric", "weighting": "learned"}


def terms_of(candidates, phrases):
    """Both losses with negatives of several kinds, one of them with gates."""
    drawn = {**POOLING, "negatives": "importance", "candidates": candidates}
    return {
        "hardest": info_nce.Term(**POOLING, negatives="hardest", candidates=candidates),
        "drawn": info_nce.Term(**drawn),
        "drawn_sigmoid": sigmoid.Term(**drawn),
        "sampled": info_nce.Term(**GATED, negatives="sampled", sampled_phrases=phrases),
    }


def objective(candidates=5, phrases=2):
    terms = {
        name: TermEntry(term=term, level="fine", **PLACE)
        for name, term in terms_of(candidates, phrases).items()
    }
    return Objective({**terms, "coarse": TermEntry(term=info_nce.Term(), level="coarse", **PLACE)})


def value_and_gradients(loss, batch):
    @jax.jit
    def compute(heads, key):
        def of_vectors(vectors):
            given = {
                name: heads[name]._replace(local=local, coarse=coarse, gates=gates)
                for name, (local, coarse, gates) in vectors.items()
            }
            return loss(PARAMETERS, {"joint": given}, batch, 0, key=key)

        vectors = {name: (head.local, head.coarse, head.gates) for name, head in heads.items()}
        return jax.value_and_grad(of_vectors, has_aux=True)(vectors)

    return compute


PARAMETERS = objective().init()


def test_eight_devices_compute_what_one_does_and_nothing_valid_is_zero():
    with jax.enable_x64(True):
        heads, batch = inputs(np.float64)
        key = jax.random.key(5)
        one = value_and_gradients(objective(), batch)
        expected = one(heads, key)
        many = value_and_gradients(sharded(objective(), mesh(), replicated=(0, 3)), batch)
        found = many(heads, key)
        for actual, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-12)
        other, _ = one(heads, jax.random.key(6))
        for name in ("hardest", "drawn", "drawn_sigmoid", "sampled", "coarse"):
            same = other[1][f"loss/{name}"] == expected[0][1][f"loss/{name}"]
            assert same == (name in ("hardest", "coarse"))
        # Three captions, fewer than the five candidates: all of them are compared.
        few = heads["text"].mask & (jnp.arange(B) % 6 == 0)[:, None, None]
        (_, metrics), gradients = one({**heads, "text": heads["text"]._replace(mask=few)}, key)
        assert metrics["loss/hardest"] > 0
        np.testing.assert_allclose(metrics["loss/hardest"], metrics["loss/drawn"], rtol=1e-10)
        assert all(np.all(np.isfinite(gradient)) for gradient in jax.tree.leaves(gradients))
        nothing = heads["text"]._replace(mask=jnp.zeros_like(heads["text"].mask))
        (loss, _), gradients = one({**heads, "text": nothing}, key)
        assert loss == 0
        assert not any(np.any(gradient) for gradient in jax.tree.leaves(gradients))


def test_a_clips_own_caption_has_no_more_phrases_than_others():
    """Clips that are alike have one score with a caption, whosever it is.

    A pool over more phrases would be higher, and tell a clip's own caption whatever it says.
    """
    rng = np.random.default_rng(0)
    clip, phrases = (rng.normal(size=size).astype(np.float32) for size in ((1, N, D), (B, P, D)))
    x = Side(*map(jnp.asarray, (np.repeat(clip, B, 0), np.ones((B, N), bool))))
    y = Side(*map(jnp.asarray, (phrases, np.ones((B, P), bool))))
    term = info_nce.Term(**POOLING, direction="symmetric", negatives="sampled", sampled_phrases=2)
    S = term.compared(term.init(), x, y, key=jax.random.key(0)).values
    np.testing.assert_allclose(S, jnp.broadcast_to(S[:1], S.shape), rtol=1e-5)


def test_as_many_candidates_as_captions_are_all():
    heads, batch = inputs(np.float32)
    of_as_many = jax.jit(objective(B, K * P))
    _, found = of_as_many(PARAMETERS, {"joint": heads}, batch, 0, key=jax.random.key(0))
    of_all = {
        "info_nce": info_nce.Term(**POOLING),
        "sigmoid": sigmoid.Term(**POOLING),
        "gated": info_nce.Term(**GATED),
    }
    entries = {name: TermEntry(term=term, level="fine", **PLACE) for name, term in of_all.items()}
    whole = Objective(entries)
    _, wanted = jax.jit(whole)(whole.init(), {"joint": heads}, batch, 0)
    same = {"hardest": "info_nce", "drawn": "info_nce", "drawn_sigmoid": "sigmoid"}
    for name, of in {**same, "sampled": "gated"}.items():
        for metric in ("loss/{}", "{}/top1"):
            np.testing.assert_allclose(
                found[metric.format(name)], wanted[metric.format(of)], rtol=1e-5
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "random"}, "negatives must be one of all, hardest, importance, sampled"),
        ({"negatives": "hardest"}, "negatives 'hardest' needs candidates of at least 1; got 0"),
        ({"candidates": 4}, "candidates belongs to negatives 'hardest' or 'importance'; got 4"),
        (
            {"negatives": "sampled", "sampled_phrases": 1, "candidates": 2},
            "candidates belongs to negatives .* with negatives 'sampled'",
        ),
        ({"negatives": "sampled"}, "negatives 'sampled' needs sampled_phrases of at least 1"),
        (
            {"negatives": "hardest", "candidates": 4, "implementation": "kernel"},
            "negatives 'hardest' needs implementation 'blockwise' or 'dense'; got 'kernel'",
        ),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sigmoid.Term(**options)


def test_what_a_batch_lacks_is_named():
    term = info_nce.Term(negatives="hardest", candidates=9)
    with pytest.raises(ValueError, match="candidates must be from 1 to the 8 captions; got 9"):
        term.check_batch(8, "gather")
    with pytest.raises(ValueError, match="negatives 'hardest' needs exchange 'gather'; got 'ring'"):
        term.check_batch(16, "ring")
    with pytest.raises(ValueError, match="negatives other than 'all' need level 'fine'"):
        TermEntry(term=term, level="coarse", **PLACE)
    with pytest.raises(
        ValueError, match="'fine' chooses negatives by coarse embeddings; add a term"
    ):
        Objective({"fine": TermEntry(term=term, level="fine", **PLACE)})
    side = Side(jnp.ones((9, 2, D)), jnp.ones((9, 2), bool))
    with pytest.raises(ValueError, match="negatives 'hardest' need coarse embeddings; got None"):
        term(term.init(), side, side, step=0)
    drawing = info_nce.Term(negatives="sampled", sampled_phrases=1)
    with pytest.raises(ValueError, match="negatives 'sampled' are drawn and need a key; got None"):
        drawing(drawing.init(), side, side, step=0)
    with pytest.raises(ValueError, match="candidates must be from 1 to the 3 captions; got 4"):
        hardest_candidates(jnp.zeros((3, 3)), k=4, temperature=TAU)
