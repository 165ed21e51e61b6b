"""Mean average precision: for each class, how well clips with the class rank before the others.

One more axis here: Q queries, the clips. The definition is that of scikit-learn's
``average_precision_score``, which published mAP figures use (for instance pytorch/evaluate.py of
github.com/qiuqiangkong/audioset_tagging_cnn at commit 1b7cb52): AP = Σ_n (R_n - R_{n-1}) P_n over
the distinct scores from the highest to the lowest, without interpolation. Equal scores are one
step. If all scores are equal, AP is the share of positives, which is the chance level. NaN counts
as the lowest score.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64

from fgmm.eval import metrics

_RESAMPLES = 1000
_LEVEL = 0.95


def average_precision(
    scores: Float[np.ndarray, "Q"],
    relevant: Bool[np.ndarray, "Q"],
    times: Int64[np.ndarray, "Q R"],
) -> Float[np.ndarray, "R"]:
    """The average precision of one class in R resamples of the queries.

    Args:
      scores: of the class for each query; higher is better.
      relevant: whether each query has the class.
      times: how often each query occurs in each resample.

    Returns:
      NaN where a resample has no query with the class.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    scores, times = scores[order], times[order]
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    taken = np.cumsum(times, axis=0)[ends]
    found = np.cumsum(times * relevant[order][:, None], axis=0)[ends]
    steps = np.diff(found, axis=0, prepend=0)
    total = found[-1]
    precision = found / np.maximum(taken, 1)
    with np.errstate(invalid="ignore"):
        return (steps * precision).sum(axis=0) / np.where(total > 0, total, np.nan)


def mean_over_classes(
    scores: Float[np.ndarray, "Q classes"], labels: Bool[np.ndarray, "Q classes"]
) -> float:
    """The mean average precision over the classes that any query has, without an interval."""
    once = np.ones((len(scores), 1), np.int64)
    there = np.flatnonzero(labels.any(axis=0)).tolist()
    return float(np.mean([average_precision(scores[:, k], labels[:, k], once)[0] for k in there]))


def mean_average_precision(
    parts: Sequence[tuple[Float[np.ndarray, "_ classes"], Bool[np.ndarray, "_ classes"]]],
    classes: Sequence[str],
    *,
    what: str = "average_precision",
    seed: int = 0,
    samples: Sequence[int] | None = None,
) -> dict[str, float]:
    """The mean over classes, and over parts, with its 95% interval and its chance level.

    Each test part may have been scored by another network, so scores are compared only within a
    part. The interval is a percentile bootstrap over the queries of each part, as in
    ``metrics.bootstrap_interval``. Parts with the same queries are resampled alike. A class that a
    resample lacks is left out of its mean.

    Args:
      parts: for each part, the scores of each class for each query (higher is better), and which
        classes each query has.
      classes: names of the classes.
      what: prefix of the figures of single classes.
      seed: of the resampling.
      samples: for each part, the number of its set of queries; by default each has its own.

    Returns:
      ``mAP``, ``mAP_low``, ``mAP_high``; ``chance_mAP``, the mean over classes of the share of
      queries with the class; and as ``WHAT/CLASS`` the average precision of each class that any
      query has, with its interval.

    Raises:
      ValueError: in one of the parts, no query has any class.
    """
    means, chances, by_class = [], [], {}
    numbers = range(len(parts)) if samples is None else samples
    for number, (scores, labels) in zip(numbers, parts, strict=True):
        there = np.flatnonzero(labels.any(axis=0))
        if not there.size:
            raise ValueError("no query has a class to rank by")
        # The sample itself, before its resamples.
        once = np.ones((1, len(scores)), np.int64)
        drawn = metrics.times_drawn(len(scores), (seed, number), _RESAMPLES)
        times = np.concatenate([once, *drawn]).T
        of_classes = np.stack(
            [average_precision(scores[:, k], labels[:, k], times) for k in there.tolist()]
        )
        counted = ~np.isnan(of_classes)
        means.append(np.nansum(of_classes, axis=0) / np.maximum(counted.sum(axis=0), 1))
        chances.append(labels[:, there].mean())
        for k, precision in zip(there.tolist(), of_classes, strict=True):
            by_class.setdefault(k, []).append(precision)
    found = _with_ends("mAP", np.mean(means, axis=0)) | {"chance_mAP": float(np.mean(chances))}
    for k, of_parts in sorted(by_class.items()):
        there = ~np.isnan(of_parts)
        resampled = np.nansum(of_parts, axis=0) / np.where(there.any(0), there.sum(0), np.nan)
        found |= _with_ends(f"{what}/{classes[k]}", resampled)
    return found


def _with_ends(name: str, values: Float[np.ndarray, "R"]) -> dict[str, float]:
    """The first value, that of the sample itself, and the ends of the interval of the others."""
    low, high = np.nanquantile(values[1:], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
