"""Metrics on the host, each with its chance level.

Two more axes here: Q queries and G items of the gallery, one of them captions and the other clips.
Shares, such as R@k, lie in [0, 1]; ranks start at 1, the best.
"""

import bisect
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64, Shaped

RECALL_AT = (1, 5, 10)

# Scores compared at a time. A few temporaries of this many entries are all that ranking allocates.
_BLOCK_ENTRIES = 1 << 20
# Quantiles at the ends of a 95% interval.
_EDGES = (0.025, 0.975)


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
    (G+1) / (r+1). Both are averaged over queries, without approximation. The chance median is the
    median rank over all queries and orders: the smallest k at which the chance of R@k is at least
    1/2; if it is exactly 1/2, the mean of this k and the smallest one at which it is above 1/2.

    Args:
      ranks: of the best relevant item, from ``retrieval_ranks``.
      relevant_counts: number of relevant items of each query, r.
      gallery: number of items ranked, G.
      group: of each query, as in ``bootstrap_interval``.

    Returns:
      ``r@1``, ``r@5``, ``r@10`` in [0, 1], ``median_rank``, ``mean_rank``; the 95% interval of
      each, as ``r@1_low`` and ``r@1_high``; and the expectation for a random order, as
      ``chance_r@1``.

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
    outcomes = {f"r@{k}": ranks <= k for k in RECALL_AT} | {"mean_rank": ranks}
    found = with_intervals(outcomes, group, medians={"median_rank": ranks})

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
    half = Fraction(1, 2)
    recall = functools.partial(_chance_recall, counts=counts, gallery=gallery)
    reached = ks[bisect.bisect_left(ks, half, key=recall)]
    # The recall at k = G is 1, so some k is above one half.
    exceeded = ks[bisect.bisect_right(ks, half, key=recall)]
    return (reached + exceeded) / 2


def caption_groups(
    captions: Sequence[Sequence[str]],
) -> tuple[Int64[np.ndarray, "Q"], Int64[np.ndarray, "Q"]]:
    """Which captions read the same.

    Captions are flattened in order, clip by clip. Captions are in one group if they are equal after
    Unicode case folding, with runs of white space replaced by one space and none at the ends.
    Punctuation counts. Each caption of a group is correct for every clip that owns one of them.

    Args:
      captions: the captions of each of G clips; a clip may have none.

    Returns:
      owner: the clip of each of Q captions.
      group: a number for each caption, equal for those that read the same.

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
    return np.array(owner, np.int64), np.array(group, np.int64)


def class_accuracies(
    correct: Bool[np.ndarray, "Q"],
    labels: Int[np.ndarray, "Q"],
    classes: Sequence[str],
    group: Int[np.ndarray, "Q"] | None = None,
    *,
    what: str = "class_accuracy",
) -> dict[str, float]:
    """The share of right answers among the queries of each class that occurs, as ``WHAT/CLASS``,
    with its 95% interval.

    Args:
      correct: whether the answer to each query was right.
      labels: the true class of each query, as a place in ``classes``.
      classes: names of the classes.
      group: as in ``bootstrap_interval``.
      what: prefix of the names of the results.
    """
    found = {}
    for label in np.unique(labels):
        own = labels == label
        outcome = {f"{what}/{classes[label]}": correct[own]}
        found |= with_intervals(outcome, None if group is None else group[own])
    return found


def classification_summary(
    scores: Float[np.ndarray, "Q classes"], labels: Int[np.ndarray, "Q"]
) -> dict[str, float]:
    """Accuracy of choosing the class with the highest score, with ties against the model.

    Args:
      scores: of each class for each query, higher is better.
      labels: the true class of each query.

    Returns:
      ``accuracy@1``; with more than five classes ``accuracy@5``, the share of queries whose true
      class is among the five best; ``mean_class_accuracy``, the mean over classes of accuracy@1;
      the 95% interval of each, such as ``accuracy@1_low``, and its chance level, such as
      ``chance_accuracy@1``.

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
    summary |= mean_class_accuracy(ranks == 1, labels)
    return summary | {"chance_mean_class_accuracy": 1 / classes}


def hubness(times_found: Int[np.ndarray, "G"]) -> dict[str, float]:
    """How unevenly items are found: the skewness of N_k, how many queries have an item among their
    best k (Radovanovic et al., "Hubs in Space", JMLR 11, 2010, equation 1).

    It is near 0 where all items are found about as often, and large where a few are found by very
    many queries; 0 where all items are found equally often.

    Args:
      times_found: N_k of each item.

    Returns:
      ``hubness``, and its 95% interval, in which items are resampled, as ``hubness_low`` and
      ``hubness_high``.
    """
    n = times_found - times_found.mean()
    powers = np.stack([n, n**2, n**3], axis=1)
    resampled, _ = _resampled(powers, None)
    value = _skewness(powers.mean(axis=0, keepdims=True))[0]
    return _with_ends("hubness", value, _skewness(resampled))


def _skewness(powers: Float64[np.ndarray, "R 3"]) -> Float64[np.ndarray, "R"]:
    """The skewness of x, from the means of x, x² and x³; 0 for a constant."""
    mean, square, cube = powers.T
    variance = np.maximum(square - mean**2, 0)
    third = cube - 3 * mean * square + 2 * mean**3
    # The variance of a constant may differ from 0 by rounding.
    spread = np.where(variance > 1e-12, variance, 1) ** 1.5
    return np.where(variance > 1e-12, third / spread, 0.0)


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
    resampled, such as the captions of a clip, since the queries of a group are alike. The mean of a
    resample is its sum divided by its number of queries.

    Args:
      values: one number or boolean for each query, such as ``ranks <= 10``, or F of them.
      group: number of the group of each query; None if each query is a group of its own.
      seed: of the resampling; the same seed, values and groups give the same intervals.
      resamples: number of resampled means.
      level: share of the resampled means inside the interval, between 0 and 1.

    Returns:
      The low ends and the high ends.

    Raises:
      ValueError: no values, no resamples, or a level outside (0, 1).
    """
    if values.size == 0:
        raise ValueError("no values to resample")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"needs resamples >= 1 and 0 < level < 1, got resamples={resamples}, level={level}"
        )
    means, _ = _resampled(values, group, seed=seed, resamples=resamples)
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(ends[0]), np.asarray(ends[1])


def _resampled(
    values: Shaped[np.ndarray, "Q *F"],
    group: Int[np.ndarray, "Q"] | None,
    medians_of: Float64[np.ndarray, "M Q"] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[Float64[np.ndarray, "R *F"], Float64[np.ndarray, "M R"]]:
    """The means of ``values`` and the medians of ``medians_of`` in each resample of groups."""
    owner, sizes = _groups(len(values), group)
    # Deviations from the mean are summed, since their sums round less than those of the values.
    centre = values.mean(axis=0, dtype=np.float64)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, owner, values - centre)
    means = []
    others = [] if medians_of is None else list(medians_of)
    medians: list[list[float]] = [[] for _ in others]
    for times in times_drawn(len(sizes), seed, resamples):
        totals = (times @ sizes).reshape(-1, *(1,) * (values.ndim - 1))
        means.append(np.tensordot(times, sums, axes=1) / totals)
        for found, of_queries in zip(medians, others, strict=True):
            found += _medians(of_queries, owner, times)
    # Rounding must take no mean out of the range of the values, such as below 0.
    within = np.clip(centre + np.concatenate(means), values.min(axis=0), values.max(axis=0))
    return within, np.array(medians).reshape(len(others), resamples)


def _medians(
    values: Float64[np.ndarray, "Q"],
    owner: Int64[np.ndarray, "Q"],
    times: Int64[np.ndarray, "R groups"],
) -> list[float]:
    """The median in each resample, from how often each group is drawn (``times``)."""
    order = np.argsort(values, kind="stable")
    ordered, owner = values[order], owner[order]
    found = []
    for drawn in times.astype(np.int32):
        reached = drawn[owner].cumsum()
        # The two values in the middle; they are the same one if the total is odd.
        total = reached[-1]
        ends = np.searchsorted(reached, [(total - 1) // 2, total // 2], "right")
        found.append(float(ordered[ends].mean()))
    return found


def _groups(
    queries: int, group: Int[np.ndarray, "Q"] | None
) -> tuple[Int64[np.ndarray, "Q"], Float64[np.ndarray, "groups"]]:
    """The number of each query's group, counted from 0, and the size of each group."""
    _, owner = np.unique(np.arange(queries) if group is None else group, return_inverse=True)
    return owner, np.bincount(owner).astype(np.float64)


def times_drawn(
    groups: int, seed: int | tuple[int, ...], resamples: int
) -> Iterator[Int64[np.ndarray, "R groups"]]:
    """Yields how often each group is drawn, with replacement, for some resamples at a time."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK_ENTRIES // groups)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(groups, size=(count, groups))
        drawn += groups * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, -1)


def auc_summary(
    name: str,
    positive: Bool[np.ndarray, "Q"],
    scores: Float[np.ndarray, "Q"],
    group: Int[np.ndarray, "Q"],
    *,
    resamples: int = 1000,
) -> dict[str, float]:
    """The share of pairs of a positive and a negative in which the positive has the higher score.

    Ties count half. Groups are resampled, as in ``bootstrap_interval``.

    Args:
      name: of the result.
      positive: which queries are positives; there must be both kinds.
      scores: of each query; higher is better.
      group: of each query, as in ``bootstrap_interval``.
      resamples: how many.

    Returns:
      The share as ``NAME``, and its 95% interval as ``NAME_low`` and ``NAME_high``.
    """
    owner, sizes = _groups(len(scores), group)
    _, level = np.unique(scores, return_inverse=True)

    def auc(weights):
        counts = [
            np.bincount(level[of], weights[of], minlength=level.max() + 1)
            for of in (positive, ~positive)
        ]
        below = np.cumsum(counts[1]) - counts[1] / 2
        pairs = counts[0].sum() * counts[1].sum()
        return counts[0] @ below / pairs if pairs else np.nan

    found = np.array(
        [
            auc(drawn[owner].astype(np.float64))
            for times in times_drawn(len(sizes), 0, resamples)
            for drawn in times
        ]
    )
    return _with_ends(name, auc(np.ones(len(scores))), found[~np.isnan(found)])


def mean_class_accuracy(
    correct: Bool[np.ndarray, "Q"],
    labels: Int[np.ndarray, "Q"],
    group: Int[np.ndarray, "Q"] | None = None,
) -> dict[str, float]:
    """The mean of the accuracies of the classes that occur, and its 95% interval.

    The queries of each class are resampled apart, so that no resample lacks a class. Queries of one
    ``group`` are resampled together.

    Args:
      correct, labels, group: as in ``class_accuracies``.

    Returns:
      ``mean_class_accuracy``, ``mean_class_accuracy_low`` and ``mean_class_accuracy_high``.
    """
    of_classes, means = [], []
    for number, label in enumerate(np.unique(labels)):
        own = labels == label
        of_classes.append(correct[own].mean())
        together = None if group is None else group[own]
        means.append(_resampled(correct[own], together, seed=number)[0])
    return _with_ends("mean_class_accuracy", np.mean(of_classes), np.mean(means, axis=0))


def mean_over_parts(
    name: str,
    outcomes: Shaped[np.ndarray, "Q"],
    part: Int[np.ndarray, "Q"],
    group: Int[np.ndarray, "Q"] | None = None,
) -> dict[str, float]:
    """The mean over parts of the mean of each part's queries, and its 95% interval.

    All parts have the same weight in every resample. A part without a query in it is left out.

    Args:
      name, outcomes, part: of the result, and of each query.
      group: as in ``bootstrap_interval``; a group may have queries in several parts.
    """
    owner, sizes = _groups(len(part), group)
    place = np.unique(part, return_inverse=True)[1]
    sums, counts = np.zeros((2, len(sizes), place.max() + 1))
    np.add.at(sums, (owner, place), outcomes)
    np.add.at(counts, (owner, place), 1)
    resampled: list[float] = []
    with np.errstate(invalid="ignore"):
        for times in times_drawn(len(sizes), 0, 1000):
            resampled += np.nanmean((times @ sums) / (times @ counts), axis=1).tolist()
    return _with_ends(name, np.mean(sums.sum(axis=0) / counts.sum(axis=0)), np.array(resampled))


def _with_ends(name: str, value: float, resampled: Float[np.ndarray, "R"]) -> dict[str, float]:
    low, high = np.quantile(resampled, _EDGES)
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def with_intervals(
    outcomes: Mapping[str, Shaped[np.ndarray, "Q"]],
    group: Int[np.ndarray, "Q"] | None = None,
    *,
    medians: Mapping[str, Shaped[np.ndarray, "Q"]] = {},
) -> dict[str, float]:
    """The mean over queries of each number, and its 95% interval as ``NAME_low``, ``NAME_high``.

    Args:
      outcomes: one number or boolean for each query, by name.
      group: as in ``bootstrap_interval``.
      medians: numbers of which the median is taken instead of the mean, by name.

    Raises:
      ValueError: there are no queries or no outcomes.
    """
    values, others = (
        [np.asarray(of_query, np.float64) for of_query in given.values()]
        for given in (outcomes, medians)
    )
    found = {}
    columns = np.stack(values, axis=1)
    if not columns.size:
        raise ValueError("no values to resample")
    means, of_medians = _resampled(columns, group, np.array(others) if others else None)
    for names, centres, resampled in (
        (outcomes, columns.mean(axis=0), means.T),
        (medians, [np.median(of_query) for of_query in others], of_medians),
    ):
        for name, centre, of_name in zip(names, centres, resampled, strict=True):
            found |= _with_ends(name, centre, of_name)
    return found
