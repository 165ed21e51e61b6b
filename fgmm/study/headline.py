"""How much larger a batch coarse training needs to keep up with fine training.

The ratio is B/b for the largest B with two properties. Fine, at a batch of b, is at least as good
as the best coarse arm over all batches up to B. And coarse gains from b to B: the best coarse arm
at B is better than the best coarse arm at b, by more than the interval of the difference. Where
coarse gains at no B, batch does not matter, and there is no ratio. The best coarse arm is chosen by
its mean over seeds, which favours coarse.

All results that are compared follow one of these rules: *equal updates* (coarse sees B/b times the
examples), *equal examples*, or *plateau*: the most examples that an arm was trained with at a
batch. Larger batches at which a coarse arm was still rising then do not count.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fgmm.study.intervals import Interval, Measurement, difference

# By batch.
ByBatch = Mapping[int, Measurement]


class Headline(NamedTuple):
    """What is found for a fine arm at a batch of b.

    Attributes:
      batch: b.
      ratio: B/b; None where there is none.
      verdict: in words.
      against: (arm, batch) of the best coarse arm over all batches up to B, or over all batches
        where there is no ratio.
      lead: fine less that one.
      gain: of coarse from b to B, or to the batch where it is best.
    """

    batch: int
    ratio: float | None
    verdict: str
    against: tuple[str, int]
    lead: Interval | None
    gain: Interval | None


def headline(fine: ByBatch, coarse: Mapping[str, ByBatch], batch: int) -> Headline | None:
    """The ratio for a fine arm at a batch.

    Args:
      fine: the arm's results.
      coarse: the results of the coarse arms, by name.
      batch: b.

    Returns:
      None if fine or coarse were not trained at b, or coarse at no larger batch.
    """
    batches = sorted({size for results in coarse.values() for size in results})
    larger = [size for size in batches if size > batch]
    if batch not in fine or batch not in batches or not larger:
        return None

    def best(sizes: list[int]) -> tuple[str, int]:
        tried = [(name, size) for name, by in coarse.items() for size in sizes if size in by]
        return max(tried, key=lambda at: coarse[at[0]][at[1]].mean)

    def found(at: tuple[str, int]) -> Measurement:
        return coarse[at[0]][at[1]]

    gains = {size: difference(found(best([size])), found(best([batch]))) for size in larger}
    counting = [size for size in larger if gains[size] is not None and gains[size].above_zero]
    if not counting:
        against = best(batches)
        top = max(larger, key=lambda size: found(best([size])).mean)
        return Headline(
            *(batch, None, "batch does not matter there", against),
            *(difference(fine[batch], found(against)), gains[top]),
        )
    for size in reversed(counting):
        against = best([other for other in batches if other <= size])
        lead = difference(fine[batch], found(against))
        if lead is not None and lead.mean >= 0:
            verdict = f"as good as coarse at up to {size}"
            return Headline(batch, size / batch, verdict, against, lead, gains[size])
    against = best([other for other in batches if other <= counting[0]])
    lead = difference(fine[batch], found(against))
    verdict = f"behind coarse at {counting[0]}"
    return Headline(batch, None, verdict, against, lead, gains[counting[0]])


def reached(
    steps: Sequence[int | float], values: Sequence[int | float], target: float
) -> int | float | None:
    """Where a learning curve first reaches a target, on straight lines between its points.

    Args:
      steps: of the evaluations, ascending; or examples, FLOPs or seconds.
      values: at each; nothing is known before the first.
      target: to reach.

    Returns:
      None if it does not reach the target.
    """
    before: tuple[float, float] | None = None
    for step, value in zip(steps, values, strict=True):
        if value >= target:
            if before is None or before[1] >= value:
                return step
            share = (target - before[1]) / (value - before[1])
            return before[0] + share * (step - before[0])
        before = (step, value)
    return None


def rising(values: Sequence[int | float], least: float = 0.01) -> bool:
    """Whether a learning curve gained more than ``least`` in its last quarter."""
    last = len(values) - 1
    return last < 1 or values[last] - values[last - max(1, round(last / 4))] > least
