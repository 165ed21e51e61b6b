import tracemalloc

import numpy as np
import pytest

from fgmm.eval import metrics, ranks
from fgmm.eval.bank import Bank
from fgmm.models.embeddings import Embeddings
from tests.eval.test_bank import best_match, unit

CLIPS = 23


def corpus(seed=0):
    """Captions of which some read the same, two of one clip among them."""
    rng = np.random.default_rng(seed)
    owner = np.sort(rng.integers(CLIPS, size=60))
    owner[:CLIPS] = np.arange(CLIPS)
    owner = np.sort(owner)
    group = rng.integers(40, size=60)
    group[1] = group[0]
    relevance = ranks.Relevance.of(group, owner, CLIPS)
    owns = np.zeros((CLIPS, 40), bool)
    owns[owner, group] = True
    return relevance, owns[:, group]


def tiles(scores, size, keep_bytes=0):
    computed = []

    def compute(rows, columns):
        computed.append((rows, columns))
        return {"a": scores[rows, columns], "b": -scores[rows, columns]}

    return ranks.Tiles(compute, *scores.shape, size=size, keep_bytes=keep_bytes), computed


def some_scores(seed=0):
    """With ties, NaN, a clip and a caption that could not be read."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-4, 5, (CLIPS, 60)).astype(np.float32) / 2
    scores[3, 8] = scores[9, 9] = np.nan
    scores[5], scores[:, 17] = -np.inf, -np.inf
    return scores


def times_found(scores, k=10):
    found = np.zeros(scores.shape[1], int)
    for row in scores:
        there = [i for i in range(len(row)) if row[i] > -np.inf]
        for item in sorted(there, key=lambda i, row=row: (-row[i], i))[:k]:
            found[item] += 1
    return found


def test_relevance_is_that_of_groups():
    relevance, dense = corpus()
    np.testing.assert_array_equal(relevance.tile(slice(0, CLIPS), slice(0, 60)), dense)
    np.testing.assert_array_equal(relevance.tile(slice(4, 9), slice(11, 50)), dense[4:9, 11:50])
    x, y = np.indices(dense.shape)
    np.testing.assert_array_equal(relevance.pairs(x, y), dense)
    of_y, of_x = relevance.counts
    np.testing.assert_array_equal(of_y, dense.sum(axis=0))
    np.testing.assert_array_equal(of_x, dense.sum(axis=1))


@pytest.mark.parametrize(("size", "keep_bytes"), [(7, 0), (7, 2000), (100, 1 << 20)])
def test_ranks_in_tiles_are_those_of_the_whole_matrix(size, keep_bytes):
    relevance, dense = corpus()
    scores = some_scores()
    made, computed = tiles(scores, size, keep_bytes)
    found = ranks.outcomes(made, relevance)
    for name, matrix in (("a", scores), ("b", -scores)):
        both = found[name]
        expected = (
            metrics.retrieval_ranks(matrix.T, dense.T),
            metrics.retrieval_ranks(matrix, dense),
        )
        np.testing.assert_array_equal(both.y_to_x.ranks, expected[0])
        np.testing.assert_array_equal(both.x_to_y.ranks, expected[1])
    np.testing.assert_array_equal(found["a"].y_to_x.found, times_found(scores.T))
    np.testing.assert_array_equal(found["a"].x_to_y.found, times_found(scores))
    if keep_bytes > 1 << 16:
        assert len(computed) == 1
    assert all(rows.stop - rows.start <= size for rows, _ in computed)


@pytest.mark.long
def test_memory_does_not_grow_with_the_pairs():
    """The scores of all pairs would take 64 MiB."""
    rng = np.random.default_rng(0)
    x, y = unit(rng, 4096, 8), unit(rng, 4096, 8)
    relevance = ranks.Relevance.of(np.arange(4096), np.arange(4096), 4096)
    made = ranks.Tiles(
        lambda rows, columns: {"a": x[rows] @ y[columns].T}, 4096, 4096, size=256, keep_bytes=0
    )
    tracemalloc.start()
    found = ranks.outcomes(made, relevance, correct_hubs=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    expected = metrics.retrieval_ranks(y @ x.T, np.eye(4096, dtype=bool))
    assert np.mean(found["a"].y_to_x.ranks == expected) > 0.99


def test_hubs_are_corrected_by_the_means_of_the_ten_best():
    relevance, dense = corpus()
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(CLIPS, 60)).astype(np.float32)
    # A hub, which everything finds.
    scores[2] += 1.5
    of_x = np.sort(scores, axis=1)[:, -10:].mean(axis=1, keepdims=True)
    of_y = np.sort(scores, axis=0)[-10:].mean(axis=0, keepdims=True)
    corrected = 2 * scores - of_x - of_y
    made, _ = tiles(scores, 8)
    found = ranks.outcomes(made, relevance, correct_hubs=True)
    assert set(found) == {"a", "b", "a_csls", "b_csls"}
    both = found["a_csls"]
    np.testing.assert_array_equal(both.y_to_x.ranks, metrics.retrieval_ranks(corrected.T, dense.T))
    np.testing.assert_array_equal(both.x_to_y.ranks, metrics.retrieval_ranks(corrected, dense))
    assert both.y_to_x.found[2] < found["a"].y_to_x.found[2]


def bank(rng, rows, n):
    coarse = np.round(unit(rng, rows, 3), 1)
    return Bank(coarse, unit(rng, rows, n, 3), np.ones((rows, n), bool), ["" for _ in range(rows)])


@pytest.mark.parametrize("shortlist", [1, 5, CLIPS])
def test_coarse_then_fine_is_what_two_sorts_give(shortlist):
    relevance, dense = corpus()
    rng = np.random.default_rng(2)
    x, y = bank(rng, CLIPS, 3), bank(rng, 60, 2)
    x.mask[4] = False
    coarse = y.coarse @ x.coarse.T
    fine = best_match(x.rows(slice(None)), y.rows(slice(None))).T
    coarse[:, 4] = fine[:, 4] = -np.inf
    by_coarse = metrics.retrieval_ranks(coarse, dense.T)
    found = ranks.of_shortlists(
        x, y, best_match, shortlist, relevance.pairs, ranks.Outcome(by_coarse, np.zeros(CLIPS, int))
    )
    for query in range(60):
        # Right answers come last among equal ones, so a list that ends in a tie has none of them.
        right = dense[:, query]
        there = [i for i in range(CLIPS) if coarse[query, i] > -np.inf]
        listed = sorted(there, key=lambda i: (-coarse[query, i], i))[:shortlist]
        rest = sorted(there, key=lambda i: (-coarse[query, i], i))[shortlist:]
        edge = coarse[query, listed[-1]]
        tied = bool(rest) and coarse[query, rest[0]] == edge
        chosen = [i for i in listed if right[i] and not (tied and coarse[query, i] == edge)]
        wrong = [i for i in listed if not right[i]]
        if chosen:
            best = max(fine[query, i] for i in chosen)
            expected = 1 + sum(fine[query, i] >= best for i in wrong)
        else:
            expected = max(by_coarse[query], 1 + len(wrong))
        assert found.ranks[query] == expected
    if shortlist == CLIPS:
        # Nothing is left out of the list, so it is the fine score alone.
        np.testing.assert_array_equal(found.ranks, metrics.retrieval_ranks(fine, dense.T))
        np.testing.assert_array_equal(found.found, times_found(fine))


def test_a_query_that_cannot_be_read_is_not_answered():
    rng = np.random.default_rng(3)
    x, y = bank(rng, CLIPS, 3), bank(rng, 5, 2)
    y.mask[2] = False
    relevance = ranks.Relevance.of(np.arange(5), np.arange(5), CLIPS)
    worst = ranks.Outcome(np.full(5, CLIPS), np.zeros(CLIPS, int))
    found = ranks.of_shortlists(x, y, best_match, 6, relevance.pairs, worst)
    assert found.ranks[2] == CLIPS
    assert found.found.sum() == 4 * 6


def test_embeddings_without_local_ones_are_compared_by_the_coarse_one():
    coarse = unit(np.random.default_rng(0), 4, 3)
    items = Bank(
        coarse,
        None,
        np.array([[True, False], [False, False], [True, True], [True, True]]),
        list("abcd"),
    )
    rows = items.rows(slice(0, 3))
    assert isinstance(rows, Embeddings)
    np.testing.assert_array_equal(rows.local[:, 0], coarse[:3])
    assert rows.mask[:, 0].tolist() == [True, False, True]
