"""Metrics on the host, each with its chance level.

Two more axes here: Q queries and G items of the gallery, one of them captions and the other clips.
Shares, such as R@k, lie in [0, 1]; ranks start at 1, the best.
"""

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64, Shaped

RECALL_AT = (1, 5, 10)

# Scores compared at a time. A few temporaries of this many entries are all that ranking allocates.
_BLOCK_ENTRIES = 1 << 20


def retrieval_ranks(
    scores: Float[np.ndarray, "Q G"], relevant: Bool[np.ndarray, "Q G"]
) -> Int64[np.ndarray, "Q"]:
    """Rank of the best relevant item of every query, with ties against the model.

    The rank is 1 + the number of irrelevant items that score at least as much as the best relevant
    one, so a model that gives every pair the same score gains nothing. A score that is NaN counts
    against the model too: the worst for a relevant item, the best for an irrelevant one.

    Args:
      scores: similarity of each query to each item, higher is better.
      relevant: whether the item is a correct answer.

    Returns:
      Ranks from 1 to 1 + the number of irrelevant items.

    Raises:
      ValueError: a query has no relevant item.
    """
    queries, gallery = scores.shape
    unanswerable = np.flatnonzero(~relevant.any(axis=1))
    if unanswerable.size:
        raise ValueError(
            f"query {unanswerable[0]} has no relevant item among {gallery} "
            f"({unanswerable.size} such queries of {queries}); leave it out before ranking"
        )
    ranks = np.empty(queries, np.int64)
    rows = max(1, _BLOCK_ENTRIES // max(gallery, 1))
    for start in range(0, queries, rows):
        block = slice(start, start + rows)
        score, correct = scores[block], relevant[block]
        best = np.where(correct & ~np.isnan(score), score, -np.inf).max(axis=1, keepdims=True)
        # "Not below" rather than "at least", since no comparison with NaN holds.
        ahead = ~correct & ~(score < best)
        ranks[block] = 1 + ahead.sum(axis=1)
    return ranks


def retrieval_summary(
    ranks: Int[np.ndarray, "Q"],
    relevant_counts: Int[np.ndarray, "Q"],
    gallery: int,
    group: Int[np.ndarray, "Q"] | None = None,
) -> dict[str, float]:
    """Recall at 1, 5 and 10, median and mean rank, and the chance level of each.

    With r relevant items among G in random order, the first k hold none of them with probability
    C(G-r, k) / C(G, k) (hypergeometric), and the best relevant one has the expected rank
    (G+1) / (r+1). Both are averaged over queries, without approximation. The chance median is that
    of the ranks of all queries taken together: the smallest k that half of them reach, or midway
    between two such k where exactly half reach the first.

    Args:
      ranks: of the best relevant item, from ``retrieval_ranks``.
      relevant_counts: number of relevant items of each query, r.
      gallery: number of items ranked, G.
      group: of each query, as in ``bootstrap_interval``.

    Returns:
      ``r@1``, ``r@5``, ``r@10`` in [0, 1], each with its 95% interval as ``r@1_low`` and
      ``r@1_high``; ``median_rank``, ``mean_rank``; and under ``chance_r@1`` and so on what a random
      order is expected to give.

    Raises:
      ValueError: no queries, or counts or ranks that a gallery of this size cannot have.
    """
    if ranks.size == 0:
        raise ValueError("no queries to summarise")
    if relevant_counts.min() < 1 or relevant_counts.max() > gallery:
        raise ValueError(
            f"relevant_counts must lie in 1..{gallery} (the gallery), "
            f"got {relevant_counts.min()}..{relevant_counts.max()}"
        )
    if ranks.min() < 1 or (ranks + relevant_counts).max() > gallery + 1:
        raise ValueError(
            f"ranks must lie in 1..1 + irrelevant items of a gallery of {gallery}, "
            f"got {ranks.min()}..{ranks.max()}"
        )
    found = with_intervals({f"r@{k}": ranks <= k for k in RECALL_AT}, group)
    found |= {"median_rank": float(np.median(ranks)), "mean_rank": float(ranks.mean())}

    counts = Counter(relevant_counts.tolist())
    chance = {f"chance_r@{k}": float(_chance_recall(k, counts, gallery)) for k in RECALL_AT}
    return (
        found
        | chance
        | {
            "chance_median_rank": _chance_median_rank(counts, gallery),
            "chance_mean_rank": float(((gallery + 1) / (relevant_counts + 1)).mean()),
        }
    )


def _chance_recall(k: int, counts: Counter[int], gallery: int) -> Fraction:
    """Share of queries with a relevant item among the first k of a random order.

    Args:
      counts: how many queries have r relevant items, for each r.
    """
    k = min(k, gallery)
    # C(G-k, r) / C(G, r) is C(G-r, k) / C(G, k) in smaller numbers, as r is mostly below k.
    missed = sum(
        queries * Fraction(comb(gallery - k, r), comb(gallery, r)) for r, queries in counts.items()
    )
    return 1 - missed / counts.total()


def _chance_median_rank(counts: Counter[int], gallery: int) -> float:
    """Median rank of the best relevant item over queries and random orders."""
    ks = range(1, gallery + 1)

    def recall(k: int) -> Fraction:
        return _chance_recall(k, counts, gallery)

    half = Fraction(1, 2)
    reached = ks[bisect.bisect_left(ks, half, key=recall)]
    # The last k of all has recall 1, so something lies above one half.
    exceeded = ks[bisect.bisect_right(ks, half, key=recall)]
    return (reached + exceeded) / 2


def caption_relevance(
    captions: Sequence[Sequence[str]],
) -> tuple[Int64[np.ndarray, "Q"], Bool[np.ndarray, "Q G"]]:
    """Which clips each caption may retrieve.

    Captions are flattened in order, clip by clip. Captions that read the same after Unicode case
    folding, with runs of white space taken as one space and none at the ends, are the same caption:
    each is correct for every clip that owns one of them. Punctuation counts.

    Args:
      captions: the captions of each of G clips; a clip may have none.

    Returns:
      owner: the clip each of Q captions was written for.
      text_to_clip: whether the clip is a correct answer to the caption. Its transpose is the
        relevance of captions to clips.

    Raises:
      TypeError: a clip has one string instead of a sequence of captions.
    """
    owner, group, groups = [], [], {}
    for clip, texts in enumerate(captions):
        if isinstance(texts, str):
            raise TypeError(f"clip {clip} needs a sequence of captions, got the string {texts!r}")
        for text in texts:
            owner.append(clip)
            group.append(groups.setdefault(" ".join(text.casefold().split()), len(groups)))
    owner, group = np.array(owner, np.int64), np.array(group, np.int64)
    owns = np.zeros((len(groups), len(captions)), bool)
    owns[group, owner] = True
    return owner, owns[group]


def class_accuracies(
    correct: Bool[np.ndarray, "Q"], labels: Int[np.ndarray, "Q"]
) -> dict[int, float]:
    """The share of right answers among the queries of each class, by label, ascending.

    Their mean, over the classes that occur, is the mean per class accuracy.

    Args:
      correct: whether each of Q queries was answered right.
      labels: the true class of each.
    """
    return {int(label): float(correct[labels == label].mean()) for label in np.unique(labels)}


def classification_summary(
    scores: Float[np.ndarray, "Q classes"], labels: Int[np.ndarray, "Q"]
) -> dict[str, float]:
    """Accuracy of choosing the class with the highest score, with ties against the model.

    Args:
      scores: of each class for each query, higher is better.
      labels: the true class of each query.

    Returns:
      ``accuracy@1``; ``accuracy@5``, the true class is among the five best, where there are more
      than five; both with their 95% intervals, such as ``accuracy@1_low``; ``mean_class_accuracy``,
      of the first; and the chance level of each, such as ``chance_accuracy@1``.

    Raises:
      ValueError: no queries.
    """
    if labels.size == 0:
        raise ValueError("no queries to summarise")
    classes = scores.shape[1]
    ranks = retrieval_ranks(scores, labels[:, None] == np.arange(classes))
    summary = {}
    for k in (1, 5):
        if k == 1 or classes > k:
            summary |= with_intervals({f"accuracy@{k}": ranks <= k})
            summary |= {f"chance_accuracy@{k}": k / classes}
    by_class = class_accuracies(ranks == 1, labels)
    return summary | {
        "mean_class_accuracy": float(np.mean(list(by_class.values()))),
        "chance_mean_class_accuracy": 1 / classes,
    }


def hubness(scores: Float[np.ndarray, "Q G"], k: int = 10) -> float:
    """How unevenly items are found: the skewness of N_k, how many queries have an item among their
    best ``k`` (Radovanovic et al., "Hubs in Space", JMLR 11, 2010, equation 1).

    It is near 0 where all items are found about as often, and large where a few are found by very
    many queries; 0 where all items are found equally often. Of equal scores any may be among the
    best.

    Args:
      scores: similarity of each query to each item, higher is better.
      k: of the best items; G if there are fewer.
    """
    queries, gallery = scores.shape
    k = min(k, gallery)
    rows = max(1, _BLOCK_ENTRIES // max(gallery, 1))
    found = np.zeros(gallery)
    for start in range(0, queries, rows):
        best = np.argpartition(-scores[start : start + rows], k - 1, axis=1)[:, :k]
        found += np.bincount(best.ravel(), minlength=gallery)
    spread = found.std()
    return float(((found - found.mean()) ** 3).mean() / spread**3) if spread else 0.0


def bootstrap_interval(
    values: Shaped[np.ndarray, "Q *F"],
    group: Int[np.ndarray, "Q"] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[Float64[np.ndarray, "*F"], Float64[np.ndarray, "*F"]]:
    """Percentile bootstrap intervals of the means over queries.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. Whole groups are
    resampled, such as the captions of a clip, for what is in one is alike; the mean of a resample
    is the ratio of its sum and its number of queries.

    Args:
      values: one number or boolean a query, such as ``ranks <= 10``, or F of them.
      group: of each query; None if each stands alone.
      seed: of the resampling; the same seed, values and groups give the same intervals.
      resamples: number of resampled means.
      level: share of the resampled means inside the interval, between 0 and 1.

    Returns:
      The low and the high ends.

    Raises:
      ValueError: no values, no resamples, or a level outside (0, 1).
    """
    if values.size == 0:
        raise ValueError("no values to resample")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"needs resamples >= 1 and 0 < level < 1, got resamples={resamples}, level={level}"
        )
    queries = len(values)
    _, owner = np.unique(np.arange(queries) if group is None else group, return_inverse=True)
    sizes = np.bincount(owner).astype(np.float64)
    # What each resample would change of the mean, which is kept apart for the sake of rounding.
    centre = values.mean(axis=0, dtype=np.float64)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, owner, values - centre)
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK_ENTRIES // len(sizes))
    means = []
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(len(sizes), size=(count, len(sizes)))
        drawn += len(sizes) * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * len(sizes)).reshape(count, -1)
        totals = (times @ sizes).reshape(-1, *(1,) * (values.ndim - 1))
        means.append(np.tensordot(times, sums, axes=1) / totals)
    edges = [(1 - level) / 2, (1 + level) / 2]
    ends = centre + np.quantile(np.concatenate(means), edges, axis=0)
    return np.asarray(ends[0]), np.asarray(ends[1])


def with_intervals(
    outcomes: Mapping[str, Shaped[np.ndarray, "Q"]], group: Int[np.ndarray, "Q"] | None = None
) -> dict[str, float]:
    """The mean over queries of each number, and its 95% interval as ``NAME_low``, ``NAME_high``.

    Args:
      outcomes: one number or boolean a query, by name.
      group: as in ``bootstrap_interval``.
    """
    values = np.stack([np.asarray(of_query, np.float64) for of_query in outcomes.values()], axis=1)
    lows, highs = bootstrap_interval(values, group)
    found = {}
    for name, mean, low, high in zip(outcomes, values.mean(axis=0), lows, highs, strict=True):
        found |= {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
    return found


# Parts of the names of numbers from 0 to 1.
_SHARES = ("@", "accuracy", "hit", "mAP", "iou")


def table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """An aligned text table that is Markdown as well, with chance beside each column that has it.

    Shares, whose names hold one of ``_SHARES``, are printed as percentages. The interval of a
    value, ``NAME_low`` and ``NAME_high`` of its row, stands behind it. A value that a row lacks is
    ``-``.

    Args:
      rows: numbers by name for each labelled row, such as ``retrieval_summary`` returns.
      columns: names to show. ``chance_NAME`` of any row makes a column "chance" after NAME's.

    Raises:
      ValueError: no row has a column asked for.
    """
    known = {name for row in rows.values() for name in row}
    missing = [name for name in columns if name not in known]
    if missing:
        raise ValueError(f"no row has {', '.join(missing)}; there are: {', '.join(sorted(known))}")
    shown = [
        (name, head)
        for column in columns
        for name, head in ((column, column), (f"chance_{column}", "chance"))
        if name in known
    ]
    cells = [["", *(head for _, head in shown)]]
    for label, row in rows.items():
        cells.append([label, *(_cell(name, row) if name in row else "-" for name, _ in shown)])
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    # A colon on the right aligns a column of numbers to the right in Markdown.
    cells.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    lines = []
    for label, *numbers in cells:
        aligned = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append(f"| {' | '.join([label.ljust(widths[0]), *aligned])} |")
    return "\n".join(lines)


def _cell(name: str, row: Mapping[str, float]) -> str:
    shown = _number(name, row[name])
    ends = [row[end] for end in (f"{name}_low", f"{name}_high") if end in row]
    if not ends:
        return shown
    return f"{shown} ({' to '.join(_number(name, end).removesuffix('%') for end in ends)})"


def _number(name: str, value: float) -> str:
    if any(part in name for part in _SHARES):
        return f"{100 * value:.2f}%"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
