"""Search in a bank of embeddings that may be larger than memory.

A bank has M items of one modality in one space: coarse embeddings [M,D], local embeddings [M,N,D]
with their mask, and ids. The arrays may be memory-mapped and of any float dtype; blocks of them are
read, so that memory does not grow with M. ``search`` is exact, or takes the best items by the
coarse score and ranks these by the other (``shortlist``)::

    bank = Bank.open(folder)
    found = bank.search(queries, k=10, score=score, shortlist=200)
    names = [bank.ids[row] for row in found.rows[0]]

``score(items, queries)`` is a function of two ``Embeddings`` to [m,Q], such as
``pairs.Ranking.score_function`` gives. One more axis here: Q queries.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped, UInt64

from fgmm.config import ConfigError
from fgmm.models.embeddings import AnyArray, Embeddings

Score = Callable[[Embeddings, Embeddings], Float[AnyArray, "m Q"]]

_DESCRIPTION = "bank.json"
_ARRAYS = ("coarse", "local", "mask", "gates")
# Rows whose coarse embeddings, and whose local ones, are read at a time, and queries with them.
_COARSE_ROWS, _ROWS, _QUERIES = 1 << 16, 1 << 10, 64
# Of the coarse scores that are held at a time.
_ENTRIES = 1 << 22


class SearchResult(NamedTuple):
    """The best items of each query, the best first; of equal ones the lower row comes first.

    Attributes:
      rows: of the bank; -1 where it has no more items.
      scores: of these, -inf where there are none.
      scored: pairs of which ``score`` was computed; those of the coarse product are not counted.
    """

    rows: Int64[np.ndarray, "Q k"]
    scores: Float[np.ndarray, "Q k"]
    scored: int


class RowsOf:
    """Some rows of an array, read when they are asked for.

    Args:
      array: such as a memory-mapped one.
      rows: their numbers.
    """

    def __init__(self, array: Any, rows: Int64[np.ndarray, "M"]):
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | Int64[np.ndarray, "m"]) -> np.ndarray:
        return self._array[self._rows[which]]


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """Embeddings of M items.

    Attributes:
      coarse: one embedding an item.
      local: local embeddings, or phrases of captions, [M,N,D]: an array, or what is indexed as one,
        such as ``RowsOf``. None for a bank of coarse embeddings alone.
      mask: which of ``local`` are valid. An item without any is never found.
      ids: of the items.
      gates: logits of learned weights of ``local`` [M,N], likewise; None in a space without gates.
    """

    coarse: Float[np.ndarray, "M D"]
    local: Any
    mask: Bool[np.ndarray, "M N"]
    ids: Sequence[str]
    gates: Any = None

    def __post_init__(self):
        if not len(self.coarse) == len(self.mask) == len(self.ids):
            raise ValueError(
                f"a bank of {len(self.coarse)} coarse embeddings, {len(self.mask)} masks and "
                f"{len(self.ids)} ids; give as many of each"
            )

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Bank":
        """Opens what ``write`` wrote, memory-mapped.

        Raises:
          ConfigError: it is no bank, or a file of it is missing or damaged.
        """
        folder = pathlib.Path(folder)
        try:
            described = json.loads((folder / _DESCRIPTION).read_text())
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in described["arrays"]
            }
            ids = (folder / "ids.txt").read_text("utf-8").split("\n")[:-1]
            return cls(**{"local": None, **arrays}, ids=[json.loads(line) for line in ids])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder} is no bank of embeddings: {error}") from error

    def write(self, folder: str | os.PathLike[str], dtype: str = "float16") -> None:
        """Writes the bank to a folder, in blocks; ``bank.json`` comes last.

        Args:
          folder: made if it is not there.
          dtype: of local embeddings. Coarse ones are kept in float32, for they are few.
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtypes = {"coarse": "float32", "local": dtype, "mask": "bool", "gates": "float32"}
        there = [name for name in _ARRAYS if getattr(self, name) is not None]
        for name in there:
            array = getattr(self, name)
            file = np.lib.format.open_memmap(
                folder / f"{name}.npy", "w+", np.dtype(dtypes[name]), array.shape
            )
            for rows in slices(len(array), _ROWS):
                file[rows] = array[rows]
            file.flush()
        # One line an id, which may hold line breaks itself.
        lines = "".join(json.dumps(name) + "\n" for name in self.ids)
        (folder / "ids.txt").write_text(lines, "utf-8")
        (folder / _DESCRIPTION).write_text(json.dumps({"rows": len(self), "arrays": there}))

    def __len__(self) -> int:
        return len(self.coarse)

    def rows(self, which: slice | Int64[np.ndarray, "m"]) -> Embeddings:
        """Some items as they are compared: local [m,N,D], mask [m,N], coarse [m,D]."""
        coarse = np.asarray(self.coarse[which])
        # Without local embeddings an item is its coarse one.
        local = coarse[:, None] if self.local is None else np.asarray(self.local[which])
        mask = np.asarray(self.mask[which])
        mask = mask.any(1, keepdims=True) if self.local is None else mask
        gates = None if self.gates is None else np.asarray(self.gates[which])
        return Embeddings(local, mask, coarse, gates)

    def search(
        self, queries: Any, k: int, *, score: Score | None = None, shortlist: int = 0
    ) -> SearchResult:
        """The ``k`` best items of each query.

        Args:
          queries: local [Q,P,D], mask [Q,P], coarse [Q,D] and gates [Q,P] or None, as
            ``Embeddings``, or as ``fgmm.load(...).embed_text(..., local=True)`` gives them.
          k: how many.
          score: of items and queries; None for the product of coarse embeddings.
          shortlist: so many items, the best by the coarse score, are ranked by ``score``; 0 for all
            items, which is exact.

        Raises:
          ValueError: ``k`` or the shortlist is too small, the queries are of another width, or a
            score is given and the bank has no local embeddings.
        """
        if k < 1 or (shortlist and shortlist < k):
            raise ValueError(f"needs 1 <= k <= shortlist, or shortlist=0; got {k=}, {shortlist=}")
        queries = Embeddings(queries.local, queries.mask, queries.coarse, queries.gates)
        if queries.coarse.shape[1] != self.coarse.shape[1]:
            raise ValueError(
                f"queries have {queries.coarse.shape[1]} channels and the bank "
                f"{self.coarse.shape[1]}; embed both in one space"
            )
        if score is not None and self.local is None:
            raise ValueError("the bank has no local embeddings to score; give score=None")
        if score is None:
            return SearchResult(*self.nearest(queries.coarse, k), 0)
        if shortlist:
            rows, _ = self.nearest(queries.coarse, min(shortlist, len(self)))
            scores = self.scores_of(rows, queries, score)
            best = BestRows(len(rows), k)
            best.add(scores, rows)
            return SearchResult(*best.sorted(), int((rows >= 0).sum()))
        return SearchResult(*self._exhaustive(queries, k, score), len(self) * len(queries.coarse))

    def nearest(
        self, coarse: Float[np.ndarray, "Q D"], k: int
    ) -> tuple[Int64[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
        """Rows and scores of the best items by the product of coarse embeddings alone."""
        best = BestRows(len(coarse), k)
        across = np.asarray(coarse, np.float32).T
        size = max(1, min(_COARSE_ROWS, _ENTRIES // max(len(coarse), 1)))
        for rows in slices(len(self), size):
            scores = np.asarray(self.coarse[rows], np.float32) @ across
            scores[~self.mask[rows].any(axis=1)] = -np.inf
            best.add(scores.T, np.arange(rows.start, rows.stop)[None])
        return best.sorted()

    def scores_of(
        self, rows: Int64[np.ndarray, "Q S"], queries: Embeddings, score: Score
    ) -> Float[np.ndarray, "Q S"]:
        """The scores of each query with items of its own; -inf for row -1."""
        found = []
        for query, own in enumerate(rows):
            items = self.rows(np.maximum(own, 0))
            one = jax.tree.map(lambda v, query=query: v[query : query + 1], queries)
            found.append(np.asarray(score(items, one))[:, 0])
        return np.where(rows >= 0, np.stack(found), -np.inf).astype(np.float32)

    def _exhaustive(self, queries: Embeddings, k: int, score: Score):
        count = len(queries.coarse)
        parts = list(_padded_parts(queries, min(_QUERIES, _power_of_two(count))))
        best = BestRows(count, k)
        size = min(_ROWS, _power_of_two(len(self)))
        waiting = None
        for rows in slices(len(self), size):
            items = jax.tree.map(jnp.asarray, padded(self.rows(rows), size))
            started = rows, [score(items, part) for part in parts]
            # The device computes a block while the next one is read.
            if waiting is not None:
                self._add(best, *waiting, count)
            waiting = started
        if waiting is not None:
            self._add(best, *waiting, count)
        return best.sorted()

    def _add(self, best: "BestRows", rows: slice, parts: list[AnyArray], count: int) -> None:
        scores = np.concatenate([np.asarray(part) for part in parts], axis=1)
        scores = scores[: rows.stop - rows.start, :count].T.astype(np.float32)
        there = np.asarray(self.mask[rows]).any(axis=1)
        best.add(np.where(there, scores, -np.inf), np.arange(rows.start, rows.stop)[None])


class BestRows:
    """The best rows of each query so far, however they come; of equal scores the lower row is
    better. NaN is the worst score, and one of -inf is never among the best.

    Scores are compared in float32.
    """

    def __init__(self, queries: int, k: int):
        self._k = k
        self._keys = np.zeros((queries, 0), np.uint64)

    def add(self, scores: Float[np.ndarray, "Q m"], rows: Shaped[np.ndarray, "#Q m"]) -> None:
        """Takes further rows, below 2^32, each of which comes once."""
        scores = np.asarray(scores, np.float32)
        rows = np.broadcast_to(rows, scores.shape)
        if self._keys.shape[1] == self._k:
            # Of many rows few are better than the best so far.
            enough = scores >= _scores(self._keys.min(axis=1))[:, None]
            count = enough.sum(axis=1)
            if 4 * count.max(initial=0) < scores.shape[1]:
                scores, rows = _picked(enough, count, scores, rows)
        keys = _largest(_keys(scores, rows), self._k)
        self._keys = _largest(np.concatenate([self._keys, keys], axis=1), self._k)

    def sorted(self) -> tuple[Int64[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
        """Rows, the best first, and their scores; -1 and -inf where there are fewer than k."""
        keys = np.sort(self._keys, axis=1)[:, ::-1]
        keys = np.pad(keys, [(0, 0), (0, self._k - keys.shape[1])])
        rows = (np.uint64(0xFFFFFFFF) - (keys & np.uint64(0xFFFFFFFF))).astype(np.int64)
        return np.where(keys > 0, rows, -1), _scores(keys)


def _keys(
    scores: Float[np.ndarray, "Q m"], rows: Shaped[np.ndarray, "Q m"]
) -> UInt64[np.ndarray, "Q m"]:
    """Numbers in the order of scores and, among equal ones, of falling rows; 0 for none.

    The bits of floats are in their order once those of negative ones are turned around.
    """
    # Zeros of both signs are one score.
    scores = scores + np.float32(0)
    bits = scores.view(np.uint32)
    ordered = np.where(np.signbit(scores), ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    keys = (ordered << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - rows.astype(np.uint64))
    return np.where(np.isnan(scores) | (scores == -np.inf), np.uint64(0), keys)


def _scores(keys: UInt64[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The scores of keys; -inf of none."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    turned = np.where(bits < 1 << 31, ~bits, bits & np.uint32(0x7FFFFFFF)).view(np.float32)
    return np.where(keys > 0, turned, np.float32(-np.inf))


def _picked(enough, count, scores, rows):
    """The entries of each query that are enough, moved to the left and filled up with -inf."""
    query, column = np.nonzero(enough)
    place = np.arange(len(query)) - np.repeat(count.cumsum() - count, count)
    few = np.full((len(scores), count.max(initial=0)), -np.inf, np.float32)
    few_rows = np.zeros(few.shape, np.int64)
    few[query, place] = scores[query, column]
    few_rows[query, place] = rows[query, column]
    return few, few_rows


def _largest(keys: UInt64[np.ndarray, "Q m"], k: int) -> UInt64[np.ndarray, "Q l"]:
    if keys.shape[1] <= k:
        return keys
    return np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]


def slices(count: int, size: int) -> Iterator[slice]:
    """Parts of so many rows, of a size that the last one may not have."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


def padded(embeddings: Embeddings, size: int) -> Embeddings:
    """With invalid entries up to a size, so that few shapes are compiled."""

    def filled(v):
        return np.pad(v, [(0, size - len(v))] + [(0, 0)] * (v.ndim - 1))

    return jax.tree.map(filled, embeddings)


def _padded_parts(embeddings: Embeddings, size: int) -> Iterator[Embeddings]:
    for rows in slices(len(embeddings.coarse), size):
        part = jax.tree.map(lambda v, rows=rows: np.asarray(v[rows]), embeddings)
        yield padded(part, size)
