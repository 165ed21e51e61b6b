"""Ranks of the right answers in both directions, from scores that are computed in tiles.

x are G clips, y are Q captions (or sounds), and a tile holds the scores of some x and some y. Tiles
are kept up to ``keep_bytes``; the others are computed again in each pass, so that no array of the
size G·Q is needed. Ties go against the model, as in ``metrics.retrieval_ranks``.

Hubs are items that are among the best of very many queries. CSLS corrects them (Conneau, Lample et
al., "Word translation without parallel data", ICLR 2018, arXiv 1710.04087; get_candidates in
github.com/facebookresearch/MUSE src/dico_builder.py): 2·s - r_x - r_y, with r the mean of the ten
best scores of x or y. The correction uses all queries and the whole gallery of the test, so its
figures do not hold for a model that sees one query at a time.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from fgmm.eval.bank import Bank, BestRows, Score, slices

# The best items of a query that count for hubness, and whose scores correct hubs.
NEIGHBOURS = 10
CORRECTED = "_csls"

# Scores of some x and some y, by name of the score.
Tile = dict[str, Float[np.ndarray, "g q"]]


class Outcome(NamedTuple):
    """What one score gives in one direction.

    Attributes:
      ranks: the rank of the best right answer of each query.
      found: for each item, how many queries have it among their ten best.
    """

    ranks: Int64[np.ndarray, "queries"]
    found: Int64[np.ndarray, "items"]


class Both(NamedTuple):
    """The outcomes of both directions: x found by y, and y found by x."""

    y_to_x: Outcome
    x_to_y: Outcome


@dataclasses.dataclass(frozen=True)
class Relevance:
    """Which x are right answers to which y.

    Each y is in a group, such as captions that read the same. An x is a right answer to a y if it
    owns the group of that y.

    Attributes:
      group: the group of each y.
      owner, owned: pairs of an x and a group that it owns, each pair once, in the order of x.
      clips: the number of x.
    """

    group: Int64[np.ndarray, "Q"]
    owner: Int64[np.ndarray, "pairs"]
    owned: Int64[np.ndarray, "pairs"]
    clips: int

    @classmethod
    def of(
        cls, group: Int[np.ndarray, "Q"], owner: Int[np.ndarray, "Q"], clips: int
    ) -> "Relevance":
        """The relevance of y that each belong to one x.

        Args:
          group: the group of each y; all y of a group are right answers to the x of each of them.
          owner: the x of each y.
          clips: the number of x.
        """
        pairs = np.unique(np.stack([owner, group], axis=1).astype(np.int64), axis=0)
        return cls(np.asarray(group, np.int64), pairs[:, 0], pairs[:, 1], clips)

    def tile(self, rows: slice, columns: slice) -> Bool[np.ndarray, "g q"]:
        """Whether each of some x is a right answer to each of some y."""
        relevant = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
        some = slice(*np.searchsorted(self.owner, [rows.start, rows.stop]))
        group = self.group[columns]
        order = np.argsort(group, kind="stable")
        first = np.searchsorted(group[order], self.owned[some], "left")
        count = np.searchsorted(group[order], self.owned[some], "right") - first
        # One entry for each x and each y of its groups.
        place = np.arange(count.sum()) - np.repeat(count.cumsum() - count - first, count)
        relevant[np.repeat(self.owner[some] - rows.start, count), order[place]] = True
        return relevant

    def pairs(self, x: Int[np.ndarray, "..."], y: Int[np.ndarray, "..."]) -> np.ndarray:
        """Whether x[...] is a right answer to y[...]."""
        groups = int(max(self.group.max(initial=0), self.owned.max(initial=0))) + 1
        known, asked = self.owner * groups + self.owned, x * groups + self.group[y]
        at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return known[at] == asked

    @property
    def counts(self) -> tuple[Int64[np.ndarray, "Q"], Int64[np.ndarray, "G"]]:
        """The number of right answers of each y and of each x."""
        groups = int(max(self.group.max(initial=0), self.owned.max(initial=0))) + 1
        of_y = np.bincount(self.owned, minlength=groups)[self.group]
        in_group = np.bincount(self.group, minlength=groups)[self.owned]
        of_x = np.bincount(self.owner, weights=in_group, minlength=self.clips)
        return of_y.astype(np.int64), of_x.astype(np.int64)


class Tiles:
    """The scores of all x and y, tile by tile; may be iterated more than once.

    Args:
      compute: returns the scores of some x and some y, by name.
      clips, captions: G and Q.
      size: the most rows and columns of a tile.
      keep_bytes: the most bytes of tiles that are kept from one pass to the next.
    """

    def __init__(
        self,
        compute: Callable[[slice, slice], Tile],
        clips: int,
        captions: int,
        *,
        size: int = 1024,
        keep_bytes: int = 1 << 30,
    ):
        self.clips, self.captions = clips, captions
        self._compute, self._size, self._room = compute, size, keep_bytes
        self._kept: dict[tuple[int, int], Tile] = {}

    def __iter__(self) -> Iterator[tuple[slice, slice, Tile]]:
        for rows in slices(self.clips, self._size):
            for columns in slices(self.captions, self._size):
                yield rows, columns, self._tile(rows, columns)

    def _tile(self, rows: slice, columns: slice) -> Tile:
        place = rows.start, columns.start
        if place in self._kept:
            return self._kept[place]
        tile = self._compute(rows, columns)
        needed = sum(scores.nbytes for scores in tile.values())
        if needed <= self._room:
            self._room -= needed
            self._kept[place] = tile
        return tile


def outcomes(tiles: Tiles, relevance: Relevance, *, correct_hubs: bool = False) -> dict[str, Both]:
    """The outcomes of every score, by name.

    A score of -inf means that an x or y could not be read: such an item ranks behind all others,
    and such a query has the worst rank. NaN counts against the model.

    Args:
      tiles: the scores.
      relevance: the right answers.
      correct_hubs: also rank by each score corrected by CSLS, as ``NAME_csls``.
    """
    found: dict[str, Both] = {}
    best, nearest = _best_and_nearest(tiles, relevance, None)
    found |= _counted(tiles, relevance, best, nearest, None)
    if correct_hubs:
        means = {name: tuple(_mean_of_best(side) for side in nearest[name]) for name in nearest}
        best, nearest = _best_and_nearest(tiles, relevance, means)
        corrected = _counted(tiles, relevance, best, nearest, means)
        found |= {name + CORRECTED: both for name, both in corrected.items()}
    return found


# By name of the score, a pair: a value for every y, and one for every x.
_ByScore = dict[str, tuple]


def _best_and_nearest(tiles: Tiles, relevance: Relevance, means: Mapping | None):
    """The best score of a right answer, and the ten best items, for every y and every x."""
    best: _ByScore = {}
    nearest: _ByScore = {}
    for rows, columns, tile in tiles:
        pairs = np.nonzero(relevance.tile(rows, columns))
        for name, given in tile.items():
            scores = _corrected(given, means and means[name], rows, columns)
            if name not in best:
                best[name] = tuple(np.full(n, -np.inf) for n in (tiles.captions, tiles.clips))
                nearest[name] = _Nearest(), _Nearest()
            right = np.where(np.isnan(scores[pairs]), -np.inf, scores[pairs])
            of_y, of_x = best[name]
            np.maximum.at(of_y, columns.start + pairs[1], right)
            np.maximum.at(of_x, rows.start + pairs[0], right)
            near_y, near_x = nearest[name]
            near_y.add(columns, scores.T, rows)
            near_x.add(rows, scores, columns)
    return best, nearest


def _counted(
    tiles: Tiles, relevance: Relevance, best: _ByScore, nearest: _ByScore, means: Mapping | None
) -> dict[str, Both]:
    """The outcomes: a rank is 1 + the number of wrong items not below the best right answer."""
    ahead = {
        name: tuple(np.zeros(n, np.int64) for n in (tiles.captions, tiles.clips)) for name in best
    }
    for rows, columns, tile in tiles:
        wrong = ~relevance.tile(rows, columns)
        for name, given in tile.items():
            scores = _corrected(given, means and means[name], rows, columns)
            of_y, of_x = best[name]
            # "Not below" rather than "at least", since no comparison with NaN holds.
            ahead[name][0][columns] += (wrong & ~(scores < of_y[columns][None])).sum(axis=0)
            ahead[name][1][rows] += (wrong & ~(scores < of_x[rows][:, None])).sum(axis=1)
    found = {}
    for name, (by_y, by_x) in ahead.items():
        near_y, near_x = nearest[name]
        found[name] = Both(
            Outcome(1 + by_y, times_found(near_y.rows(), tiles.clips)),
            Outcome(1 + by_x, times_found(near_x.rows(), tiles.captions)),
        )
    return found


def _corrected(scores, means, rows: slice, columns: slice):
    if means is None:
        return scores
    of_y, of_x = means
    return 2 * scores - of_x[rows][:, None] - of_y[columns][None]


class _Nearest:
    """The ten best items of each query; queries and items are added block by block."""

    def __init__(self):
        self._best: dict[int, BestRows] = {}

    def add(self, queries: slice, scores: Float[np.ndarray, "q m"], rows: slice) -> None:
        """Adds the scores of some queries with some items."""
        best = self._best.setdefault(queries.start, BestRows(len(scores), NEIGHBOURS))
        best.add(scores, np.arange(rows.start, rows.stop)[None])

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        parts = [self._best[start].sorted() for start in sorted(self._best)]
        rows, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
        return rows, scores

    def rows(self) -> Int64[np.ndarray, "queries k"]:
        """The best items of each query, best first; -1 where there are fewer than ten."""
        return self._sorted()[0]

    def scores(self) -> Float[np.ndarray, "queries k"]:
        """The scores of ``rows``; -inf for -1."""
        return self._sorted()[1]


def _mean_of_best(nearest: _Nearest) -> Float[np.ndarray, "queries"]:
    """The mean of the ten best scores of each query; 0 for a query without scores."""
    scores = nearest.scores().astype(np.float64)
    there = scores > -np.inf
    total = np.where(there, scores, 0).sum(axis=1)
    return (total / np.maximum(there.sum(axis=1), 1)).astype(np.float32)


def times_found(
    rows: Int64[np.ndarray, "queries k"], items: int, k: int = NEIGHBOURS
) -> Int64[np.ndarray, "items"]:
    """How many queries have each item among their first k rows; -1 is no item."""
    first = rows[:, :k]
    return np.bincount(first[first >= 0], minlength=items)


def of_shortlists(
    items: Bank,
    queries: Bank,
    score: Score,
    shortlist: int,
    right: Callable[[np.ndarray, np.ndarray], np.ndarray],
    coarse: Outcome,
) -> Outcome:
    """The outcome of coarse-then-fine ranking.

    For each query, the best items by the coarse score come first, in the order of another score.
    The other items follow in the order of the coarse score.

    Args:
      items, queries: the two sides of the pair.
      score: of items and queries.
      shortlist: how many items are ranked by ``score``.
      right: whether rows of items [...] are right answers to queries [...].
      coarse: the outcome of the coarse score.
    """
    # One item more than the shortlist shows whether its end is a tie. Right answers in such a tie
    # count as not on it.
    rows, by_coarse = _nearest_of(items, queries, shortlist + 1)
    numbers = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    relevant = (rows >= 0) & right(np.maximum(rows, 0), numbers)
    last = by_coarse[:, shortlist - 1 : shortlist]
    tied = (by_coarse == last) & (by_coarse[:, shortlist:] == last)
    rows, relevant, tied = (v[:, :shortlist] for v in (rows, relevant, tied))
    scores = np.concatenate(
        [items.scores_of(rows[some], queries.rows(some), score) for some in slices(len(rows), 1024)]
    )
    scores = np.where(np.isnan(scores), np.where(relevant, -np.inf, np.inf), scores)
    chosen = relevant & ~tied
    best = np.where(chosen, scores, -np.inf).max(axis=1, keepdims=True)
    ahead = ((rows >= 0) & ~relevant & ~(scores < best)).sum(axis=1)
    behind = np.maximum(coarse.ranks, 1 + ((rows >= 0) & ~relevant).sum(axis=1))
    ranks = np.where(np.isfinite(best[:, 0]), 1 + ahead, behind)
    order = np.argsort(-scores, axis=1, kind="stable")
    found = times_found(np.take_along_axis(rows, order, axis=1), len(items))
    return Outcome(ranks, found)


def _nearest_of(items: Bank, queries: Bank, k: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [items.nearest(queries.coarse[some], k) for some in slices(len(queries), 1024)]
    rows, scores = (np.concatenate(side) for side in zip(*parts, strict=True))
    # A query that cannot be read finds nothing.
    unread = ~queries.mask.any(axis=1)[:, None]
    return np.where(unread, -1, rows), np.where(unread, np.float32(-np.inf), scores)
