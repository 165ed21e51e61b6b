import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgmm.config import ConfigError
from fgmm.eval import bank as banks
from fgmm.eval.bank import Bank, BestRows
from fgmm.models.embeddings import Embeddings


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def made(rows=37, n=3, width=4, seed=0):
    """A bank in which rows 5 and 11 are the same and row 7 could not be read."""
    rng = np.random.default_rng(seed)
    coarse, local = unit(rng, rows, width), unit(rng, rows, n, width)
    mask = rng.random((rows, n)) < 0.8
    mask[:, 0] = True
    coarse[11], local[11], mask[11] = coarse[5], local[5], mask[5]
    mask[7] = False
    return Bank(coarse, local, mask, [f"clip\n{row}" for row in range(rows)])


def asked(count=3, phrases=2, width=4):
    rng = np.random.default_rng(1)
    mask = np.ones((count, phrases), bool)
    return Embeddings(unit(rng, count, phrases, width), mask, unit(rng, count, width))


def best_match(items, queries):
    """The mean over phrases of their largest similarity."""
    a = np.einsum("mnd,qpd->mqpn", np.asarray(items.local, np.float32), queries.local)
    a = np.where(np.asarray(items.mask)[:, None, None], a, -2)
    return a.max(axis=3).mean(axis=2)


def sorted_rows(scores, k):
    """Of equal scores the lower row first."""
    return [sorted(range(len(s)), key=lambda row, s=s: (-s[row], row))[:k] for s in scores]


def everything(bank, queries):
    fine = best_match(bank.rows(slice(None)), queries).T
    coarse = queries.coarse @ bank.coarse.T
    fine[:, 7] = coarse[:, 7] = -np.inf
    return fine, coarse


@pytest.mark.parametrize("size", [4, 1024])
def test_an_exact_search_is_what_sorting_all_scores_gives(monkeypatch, size):
    monkeypatch.setattr(banks, "_ROWS", size)
    monkeypatch.setattr(banks, "_QUERIES", 2)
    bank, queries = made(), asked()
    fine, _ = everything(bank, queries)
    found = bank.search(queries, 6, score=best_match)
    assert found.rows.tolist() == sorted_rows(fine, 6)
    np.testing.assert_allclose(found.scores, np.take_along_axis(fine, found.rows, 1), atol=1e-6)
    assert found.scored == 37 * 3


def test_the_coarse_search_reads_blocks(monkeypatch):
    monkeypatch.setattr(banks, "_COARSE_ROWS", 5)
    bank, queries = made(), asked()
    _, coarse = everything(bank, queries)
    found = bank.search(queries, 40)
    assert found.rows[:, :36].tolist() == sorted_rows(coarse, 36)
    # There are 36 rows that could be read.
    assert (found.rows[:, 36:] == -1).all()
    assert (found.scores[:, 36:] == -np.inf).all()


def test_a_shortlist_is_ranked_by_the_score():
    bank, queries = made(), asked()
    fine, coarse = everything(bank, queries)
    found = bank.search(queries, 4, score=best_match, shortlist=9)
    for query, rows in enumerate(sorted_rows(coarse, 9)):
        expected = sorted(rows, key=lambda row, query=query: (-fine[query, row], row))[:4]
        assert found.rows[query].tolist() == expected
    assert found.scored == 9 * 3


@settings(deadline=None)
@given(st.data(), st.integers(1, 7), st.integers(1, 12))
def test_the_best_rows_do_not_depend_on_how_they_come(data, k, count):
    scores = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0, np.inf, np.nan])
    given_scores = np.array(
        data.draw(st.lists(st.lists(scores, min_size=count, max_size=count), min_size=1)),
        np.float32,
    )
    order = data.draw(st.permutations(range(count)))
    cut = data.draw(st.integers(0, count))
    best = BestRows(len(given_scores), k)
    for part in (order[:cut], order[cut:]):
        rows = np.array(part, np.int64)[None]
        best.add(given_scores[:, part], rows)
    rows, found = best.sorted()
    for query, values in enumerate(given_scores):
        there = [row for row in range(count) if values[row] > -np.inf]
        expected = sorted(there, key=lambda row, values=values: (-values[row], row))[:k]
        assert rows[query].tolist() == expected + [-1] * (k - len(expected))
        assert found[query, : len(expected)].tolist() == [values[row] + 0.0 for row in expected]


def test_few_of_many_rows_are_looked_at_closely():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 50, (4, 900)).astype(np.float32)
    best = BestRows(4, 5)
    for start in range(0, 900, 100):
        best.add(scores[:, start : start + 100], np.arange(start, start + 100)[None])
    assert best.sorted()[0].tolist() == sorted_rows(scores, 5)


def test_a_bank_is_written_and_opened_memory_mapped(tmp_path):
    bank, queries = made(), asked()
    bank.write(tmp_path / "bank")
    again = Bank.open(tmp_path / "bank")
    assert again.ids == bank.ids
    assert isinstance(again.local, np.memmap)
    assert again.local.dtype == np.float16
    np.testing.assert_allclose(again.local, bank.local, atol=1e-3)
    np.testing.assert_array_equal(again.coarse, bank.coarse)
    np.testing.assert_array_equal(again.search(queries, 5).rows, bank.search(queries, 5).rows)


def test_what_is_no_bank_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is no bank of embeddings"):
        Bank.open(tmp_path)
    made().write(tmp_path / "cut")
    (tmp_path / "cut" / "local.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ConfigError, match="cut is no bank of embeddings"):
        Bank.open(tmp_path / "cut")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "needs 1 <= k <= shortlist"),
        ({"k": 9, "shortlist": 5, "score": best_match}, "k=9, shortlist=5"),
    ],
)
def test_impossible_searches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        made().search(asked(), **options)


def test_queries_of_another_width_are_refused():
    with pytest.raises(ValueError, match="queries have 6 channels and the bank 4"):
        made().search(asked(width=6), 1)


def test_a_bank_without_local_embeddings_has_nothing_to_score():
    bank = Bank(unit(np.random.default_rng(0), 3, 4), None, np.ones((3, 1), bool), ["a", "b", "c"])
    assert bank.search(asked(), 2).rows.shape == (3, 2)
    with pytest.raises(ValueError, match="no local embeddings to score"):
        bank.search(asked(), 2, score=best_match)
