"""How much larger a batch, or how much wider an encoder, coarse training needs to be as good as
fine training.

The ratio is B/b for the largest B with two properties. First, fine training at a batch of b is at
least as good as the best coarse arm over all batches up to B. Second, coarse training gains from b
to B: the best coarse arm at B is better than the best coarse arm at b, and the interval of the
difference is above 0. If coarse training gains at no B, batch does not matter and there is no
ratio. The best coarse arm is chosen by its mean over seeds, which favours coarse training.

The compared results follow one of three rules: *equal updates* (coarse sees B/b times the
examples), *equal examples*, or *plateau*, in which each arm has, at each batch, the most examples
that it was trained with. In *plateau*, coarse results do not count from the least batch on at which
a coarse arm was still rising.

The ratio of widths, W/w, is the same with the widths of encoders in the place of batches, at equal
updates and examples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fgmm.study.intervals import Interval, Measurement, difference

# Results of an arm by its size, which is the batch or the width.
BySize = Mapping[int | float, Measurement]


class Headline(NamedTuple):
    """What is found for a fine arm at a size of b.

    Attributes:
      size: b.
      ratio: B/b; None if there is no ratio.
      verdict: the result in words.
      against: (arm, size) of the best coarse result over all sizes up to B. Without a ratio: up
        to the least size at which coarse gains, or over all sizes if it gains at none.
      lead: fine less that result; None if they share no seed.
      gain: of coarse from b to B. Without a ratio: to the least size at which coarse gains, or to
        the size at which it is best. None if they share no seed.
      matters: whether coarse gains at any larger size.
    """

    size: int | float
    ratio: float | None
    verdict: str
    against: tuple[str, int | float]
    lead: Interval | None
    gain: Interval | None
    matters: bool = True


def headline(
    fine: BySize, coarse: Mapping[str, BySize], size: int | float, axis: str = "batch"
) -> Headline | None:
    """The ratio for a fine arm at a size.

    Args:
      fine: the arm's results.
      coarse: the results of the coarse arms, by name.
      size: b.
      axis: what the size is of, for the verdict.

    Returns:
      None if fine or coarse was not trained at b, or coarse was trained at no larger size.
    """
    sizes = sorted({at for results in coarse.values() for at in results})
    larger = [other for other in sizes if other > size]
    if size not in fine or size not in sizes or not larger:
        return None

    def best(of: list[int | float]) -> tuple[str, int | float]:
        tried = [(name, at) for name, by in coarse.items() for at in of if at in by]
        return max(tried, key=lambda at: coarse[at[0]][at[1]].mean)

    def found(at: tuple[str, int | float]) -> Measurement:
        return coarse[at[0]][at[1]]

    gains = {other: difference(found(best([other])), found(best([size]))) for other in larger}
    counting = [other for other in larger if gains[other] is not None and gains[other].above_zero]
    if not counting:
        against = best(sizes)
        top = max(larger, key=lambda other: found(best([other])).mean)
        return Headline(
            *(size, None, f"{axis} does not matter there", against),
            *(difference(fine[size], found(against)), gains[top], False),
        )
    for most in reversed(counting):
        against = best([other for other in sizes if other <= most])
        lead = difference(fine[size], found(against))
        if lead is not None and lead.mean >= 0:
            verdict = f"as good as coarse at up to {most}"
            return Headline(size, most / size, verdict, against, lead, gains[most])
    against = best([other for other in sizes if other <= counting[0]])
    lead = difference(fine[size], found(against))
    verdict = f"behind coarse at {counting[0]}"
    return Headline(size, None, verdict, against, lead, gains[counting[0]])


def reached(
    steps: Sequence[int | float], values: Sequence[int | float], target: float
) -> int | float | None:
    """The step at which a learning curve first reaches a target, linear between its points.

    Args:
      steps: of the evaluations, ascending; or examples, FLOPs or seconds.
      values: the value at each step. Nothing is known before the first step, so the result is at
        least the first step.
      target: the value to reach.

    Returns:
      The step; None if the curve does not reach the target.
    """
    before: tuple[float, float] | None = None
    for step, value in zip(steps, values, strict=True):
        if value >= target:
            if before is None:
                return step
            share = (target - before[1]) / (value - before[1])
            return before[0] + share * (step - before[0])
        before = (step, value)
    return None


def rising(values: Sequence[int | float], least: float = 0.01) -> bool:
    """Whether a learning curve gained more than ``least`` in its last quarter of evaluations.

    True for a curve of fewer than two evaluations.
    """
    last = len(values) - 1
    return last < 1 or values[last] - values[last - max(1, round(last / 4))] > least
