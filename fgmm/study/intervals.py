"""Means over seeds with 95% intervals, paired by seed and by query.

An interval joins two sources of chance. *Seeds*: Student's interval of the mean of S values, one
for each seed; for a difference of two arms, of the differences at each seed. *Queries*: the
bootstrap standard error of the mean over queries (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 6), times 1.96. A query is resampled together with the outcomes of all
seeds and of both arms, since these share the queries. Half the width of the interval is the root of
the sum of the squares of the two half widths. The spread over seeds includes a part of the spread
over queries, so the interval is rather too wide. With one seed, the interval covers queries only
and not other seeds.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

RESAMPLES = 1000
_NORMAL = 1.959964  # 97.5% quantile


class Interval(NamedTuple):
    """A mean over seeds with its 95% interval.

    Attributes:
      mean: over seeds.
      half: half the width of the interval; NaN if it is unknown.
      seeds: number of seeds.
    """

    mean: float
    half: float
    seeds: int

    @property
    def low(self) -> float:
        """The low end; NaN if the interval is unknown."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The high end; NaN if the interval is unknown."""
        return self.mean + self.half

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0; False if the interval is unknown."""
        return self.low > 0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One number of an arm at one point of the grid.

    Attributes:
      values: the number by seed.
      queries: the outcomes of Q queries by seed, of which the number is the mean; empty if they are
        unknown.
    """

    values: Mapping[int, float]
    queries: Mapping[int, Float[np.ndarray, "Q"]] = dataclasses.field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(list(self.values.values())))


def interval(measured: Measurement) -> Interval:
    """The mean of the number over its seeds, with its interval."""
    seeds = sorted(measured.values)
    return _interval([measured.values[seed] for seed in seeds], _stacked(measured.queries, seeds))


def difference(a: Measurement, b: Measurement) -> Interval | None:
    """The mean of a - b over the seeds that both have, with its interval; None without such seeds.

    If outcomes of queries are missing or differ in number, only seeds count in the interval.
    """
    seeds = sorted(a.values.keys() & b.values.keys())
    if not seeds:
        return None
    of_a, of_b = _stacked(a.queries, seeds), _stacked(b.queries, seeds)
    paired = of_a is not None and of_b is not None and of_a.shape == of_b.shape
    return _interval(
        [a.values[seed] - b.values[seed] for seed in seeds], of_a - of_b if paired else None
    )


def _stacked(
    queries: Mapping[int, Float[np.ndarray, "Q"]], seeds: Sequence[int]
) -> Float[np.ndarray, "S Q"] | None:
    if any(seed not in queries for seed in seeds):
        return None
    rows = [np.asarray(queries[seed], np.float64) for seed in seeds]
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else None


def _interval(values: Sequence[float], queries: Float[np.ndarray, "S Q"] | None) -> Interval:
    halves = []
    if len(values) > 1:
        quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
        halves.append(quantile * np.std(values, ddof=1) / len(values) ** 0.5)
    if queries is not None:
        halves.append(_NORMAL * bootstrap_error(queries.mean(axis=0)))
    half = float(np.hypot.reduce(halves)) if halves else float("nan")
    return Interval(float(np.mean(values)), half, len(values))


def bootstrap_error(outcomes: Float[np.ndarray, "Q"], resamples: int = RESAMPLES) -> float:
    """Standard error of the mean over queries: the standard deviation of the resampled means.

    Args:
      outcomes: one for each query.
      resamples: how many. The same number of queries always has the same resamples.
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(outcomes), size=(resamples, len(outcomes)))
    return float(outcomes[drawn].mean(axis=1).std(ddof=1))
