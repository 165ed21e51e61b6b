"""Search in a bank of embeddings that may be larger than memory.

A bank has M items of one modality in one space: coarse embeddings [M,D], local embeddings [M,N,D]
with their mask, and ids. The arrays may be memory-mapped and of any float dtype. They are read in
blocks, so memory does not grow with M. ``search`` is exact; with ``shortlist`` it takes the best
items by the coarse score and ranks only these by the given score::

    bank = Bank.open(folder)
    found = bank.search(queries, k=10, score=score, shortlist=200)
    names = [bank.ids[row] for row in found.rows[0] if row >= 0]

``score(items, queries)`` maps two ``Embeddings`` to scores [m,Q], such as the function that
``pairs.Ranking.score_function`` returns, with its parameters bound. One more axis here: Q queries.
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
# Read at a time: rows of coarse embeddings, rows of local embeddings, queries scored with these.
_COARSE_ROWS, _ROWS, _QUERIES = 1 << 16, 1 << 10, 64
# The most coarse scores held at a time.
_ENTRIES = 1 << 22


class SearchResult(NamedTuple):
    """The best items of each query, best first; among equal scores the lower row comes first.

    Attributes:
      rows: row numbers in the bank; -1 where it has no more valid items.
      scores: of these rows; -inf for row -1.
      scored: how many pairs ``score`` was computed for; coarse products are not counted.
    """

    rows: Int64[np.ndarray, "Q k"]
    scores: Float[np.ndarray, "Q k"]
    scored: int


class RowsOf:
    """A view of some rows of an array, which are read only when they are indexed.

    Args:
      array: for instance a memory-mapped one.
      rows: their numbers in the array.
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
      coarse: one embedding for each item.
      local: local embeddings, or phrases of captions, [M,N,D]: an array, or an object indexed like
        one, such as ``RowsOf``. None for a bank of coarse embeddings alone.
      mask: which of ``local`` are valid. An item without a valid one is never found.
      ids: of the items.
      gates: logits of learned weights of ``local``, [M,N], also an array or like one; None in a
        space without gates.

    Raises:
      ValueError: ``coarse``, ``mask`` and ``ids`` differ in length.
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
        """Opens a bank that ``write`` wrote, memory-mapped.

        Raises:
          ConfigError: the folder is no bank, or one of its files is missing or damaged.
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
          folder: created if it does not exist.
          dtype: of local embeddings. Coarse embeddings and gates are written in float32.
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
        # One line for each id, as JSON, since an id may hold line breaks.
        lines = "".join(json.dumps(name) + "\n" for name in self.ids)
        (folder / "ids.txt").write_text(lines, "utf-8")
        (folder / _DESCRIPTION).write_text(json.dumps({"rows": len(self), "arrays": there}))

    def __len__(self) -> int:
        return len(self.coarse)

    def rows(self, which: slice | Int64[np.ndarray, "m"]) -> Embeddings:
        """Some items, read for scoring: local [m,N,D], mask [m,N], coarse [m,D], gates [m,N].

        In a bank of coarse embeddings alone, local is the coarse embedding, N = 1.
        """
        coarse, mask = np.asarray(self.coarse[which]), np.asarray(self.mask[which])
        gates = None if self.gates is None else np.asarray(self.gates[which])
        if self.local is None:
            return Embeddings(coarse[:, None], mask.any(1, keepdims=True), coarse, gates)
        return Embeddings(np.asarray(self.local[which]), mask, coarse, gates)

    def search(
        self, queries: Any, k: int, *, score: Score | None = None, shortlist: int = 0
    ) -> SearchResult:
        """The ``k`` best items of each query.

        Args:
          queries: local [Q,P,D], mask [Q,P], coarse [Q,D] and gates [Q,P] or None, as
            ``Embeddings``, or as ``fgmm.load(...).embed_text(..., local=True)`` gives them.
          k: how many items to return for each query.
          score: of items and queries; None for the product of coarse embeddings.
          shortlist: how many items, the best by the coarse score, are ranked by ``score``; 0 ranks
            all items, which is exact.

        Raises:
          ValueError: ``k`` or the shortlist is too small, the queries have another width than the
            bank, or a score is given and the bank has no local embeddings.
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
        """Rows and scores of the k best items by the product of coarse embeddings alone.

        Masks of queries are not known here. -1 and -inf stand where there are fewer valid items.
        """
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
        """The scores of each query with its own S items; -inf for row -1."""
        found = []
        for query, own in enumerate(rows):
            items = self.rows(np.maximum(own, 0))
            one = sliced(queries, slice(query, query + 1))
            found.append(np.asarray(score(items, one))[:, 0])
        return np.where(rows >= 0, np.stack(found), -np.inf).astype(np.float32)

    def _exhaustive(self, queries: Embeddings, k: int, score: Score):
        count = len(queries.coarse)
        size = min(_QUERIES, power_of_two(count))
        parts = [padded(sliced(queries, some), size) for some in slices(count, size)]
        best = BestRows(count, k)
        size = min(_ROWS, power_of_two(len(self)))
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
    """The k best rows of each query so far; rows may come in any order.

    Among equal scores the lower row is better. Rows with a score of NaN or -inf are never kept.
    Scores are compared in float32.
    """

    def __init__(self, queries: int, k: int):
        self._k = k
        self._keys = np.zeros((queries, 0), np.uint64)

    def add(self, scores: Float[np.ndarray, "Q m"], rows: Shaped[np.ndarray, "#Q m"]) -> None:
        """Adds rows. Row numbers are below 2^32, and each is added once."""
        scores = np.asarray(scores, np.float32)
        rows = np.broadcast_to(rows, scores.shape)
        if self._keys.shape[1] == self._k:
            # Few of many further rows are better than those kept.
            enough = scores >= _scores(self._keys.min(axis=1))[:, None]
            count = enough.sum(axis=1)
            if 4 * count.max(initial=0) < scores.shape[1]:
                scores, rows = _picked(enough, count, scores, rows)
        keys = _largest(_keys(scores, rows), self._k)
        self._keys = _largest(np.concatenate([self._keys, keys], axis=1), self._k)

    def sorted(self) -> tuple[Int64[np.ndarray, "Q k"], Float[np.ndarray, "Q k"]]:
        """The rows, best first, and their scores; -1 and -inf where there are fewer than k."""
        keys = np.sort(self._keys, axis=1)[:, ::-1]
        keys = np.pad(keys, [(0, 0), (0, self._k - keys.shape[1])])
        rows = (np.uint64(0xFFFFFFFF) - (keys & np.uint64(0xFFFFFFFF))).astype(np.int64)
        return np.where(keys > 0, rows, -1), _scores(keys)


def _keys(
    scores: Float[np.ndarray, "Q m"], rows: Shaped[np.ndarray, "Q m"]
) -> UInt64[np.ndarray, "Q m"]:
    """Integers that grow with the score and, among equal scores, with falling rows.

    The key is 0 for a score of NaN or -inf. The bits of floats sort like the floats once the bits
    of negative floats are inverted and the sign bit of the others is set.
    """
    # -0.0 becomes 0.0, so that both are one score.
    scores = scores + np.float32(0)
    bits = scores.view(np.uint32)
    ordered = np.where(np.signbit(scores), ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    keys = (ordered << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - rows.astype(np.uint64))
    return np.where(np.isnan(scores) | (scores == -np.inf), np.uint64(0), keys)


def _scores(keys: UInt64[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The scores that keys stand for; -inf for key 0."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    turned = np.where(bits < 1 << 31, ~bits, bits & np.uint32(0x7FFFFFFF)).view(np.float32)
    return np.where(keys > 0, turned, np.float32(-np.inf))


def _picked(enough, count, scores, rows):
    """The entries of each query marked in ``enough``, moved to the left and padded with -inf."""
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
    """Consecutive slices of ``size`` rows up to ``count``; the last one may be shorter."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def power_of_two(count: int) -> int:
    """The smallest one that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length()


def sliced(embeddings: Embeddings, rows: slice) -> Embeddings:
    """Some rows of all arrays of embeddings."""
    return jax.tree.map(lambda v: v[rows], embeddings)


def padded(embeddings: Embeddings, size: int) -> Embeddings:
    """Embeddings padded with invalid rows to ``size`` rows, so that few shapes are compiled."""

    def filled(v):
        return np.pad(v, [(0, size - len(v))] + [(0, 0)] * (v.ndim - 1))

    return jax.tree.map(filled, embeddings)
