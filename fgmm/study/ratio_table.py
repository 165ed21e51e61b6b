"""The ratios of batches, as a table of a study's page; see ``fgmm.study.headline``."""

import collections
from collections.abc import Mapping

from fgmm.study import comparison
from fgmm.study.comparison import JUDGED, Point, Runs
from fgmm.study.headline import ByBatch, Headline, headline, rising
from fgmm.study.intervals import Measurement
from fgmm.study.markdown import DASH, markdown_table, plain, signed_points

METHOD = """\
The ratio is B/b: fine training at a batch of b is at least as good as the best coarse arm over all
batches up to B. It counts only where coarse itself gains from b to B by more than the interval of
the difference; elsewhere batch does not matter. In brackets: fine less that coarse arm, or the gain
of coarse."""


def make(points: Mapping[Point, Mapping[str, Runs]]) -> str:
    """The part of the page on ratios, in Markdown: a row for each fine arm, batch and rule.

    Args:
      points: the runs of each arm at each point.
    """
    head = ["pairs", "noise", "rule", "arm", "b", *JUDGED, "all of them"]
    groups = collections.defaultdict(dict)
    for point, arms in points.items():
        groups[comparison.without(point, "batch", "updates", "examples")][point] = arms
    others = [axis for axis in comparison.varying(list(groups)) if axis not in ("pairs", "noise")]
    rows = [
        [*(plain(dict(group).get(axis)) for axis in ("pairs", "noise", *others)), *cells]
        for group, of_group in groups.items()
        for rule, comparable in rules(of_group).items()
        for cells in _ratio_rows(rule, comparable)
    ]
    table = markdown_table(head[:2] + others + head[2:], rows, left=4 + len(others))
    if not rows:
        table = "No fine arm shares a batch with a coarse arm that has a larger one as well."
    return f"## The ratio of batches\n\n{METHOD}\n\n{table}"


# The runs that one rule compares, by arm and batch.
Comparable = dict[str, dict[int, Runs]]


def rules(points: Mapping[Point, Mapping[str, Runs]]) -> dict[str, Comparable]:
    """The runs that each rule compares; see ``fgmm.study.headline`` for the rules.

    A rule is left out if no arm has several batches by it.

    Args:
      points: points that differ only in batch, updates and examples. Those without a batch do not
        count.

    Returns:
      By rule: each number of updates, each number of examples, and ``plateau``.
    """
    points = {point: arms for point, arms in points.items() if "batch" in dict(point)}
    found: dict[str, Comparable] = {}
    for unit in ("updates", "examples"):
        for amount in sorted({dict(point)[unit] for point in points}):
            rule = found.setdefault(f"{amount:,} {unit}", collections.defaultdict(dict))
            for point, arms in points.items():
                if dict(point)[unit] == amount:
                    for name, runs in arms.items():
                        rule[name][dict(point)["batch"]] = runs
    found["plateau"] = _plateau(points)
    return {
        rule: comparable
        for rule, comparable in found.items()
        if any(len(by_batch) > 1 for by_batch in comparable.values())
    }


def _plateau(points: Mapping[Point, Mapping[str, Runs]]) -> Comparable:
    longest: Comparable = collections.defaultdict(dict)
    for point, arms in sorted(points.items(), key=lambda item: dict(item[0])["examples"]):
        for name, runs in arms.items():
            longest[name][dict(point)["batch"]] = runs
    short = [
        batch
        for by_batch in longest.values()
        for batch, runs in by_batch.items()
        if comparison.family(runs) == "coarse" and rising(comparison.curve(runs)["value"])
    ]
    limit = min(short, default=float("inf"))
    return {
        name: {
            batch: runs
            for batch, runs in by_batch.items()
            if batch < limit or comparison.family(runs) == "fine"
        }
        for name, by_batch in longest.items()
    }


def _ratio_rows(rule: str, comparable: Comparable) -> list[list[str]]:
    rows = []
    coarse = _of_family(comparable, "coarse")
    for by_batch in _of_family(comparable, "fine").values():
        for batch, runs in sorted(by_batch.items()):
            found = {
                number: headline(
                    _by_batch(by_batch, number),
                    {other: _by_batch(runs_of, number) for other, runs_of in coarse.items()},
                    batch,
                )
                for number in JUDGED
            }
            if any(found.values()):
                title = runs[0]["arm"]["title"]
                cells = [_verdict(found[number]) for number in JUDGED]
                rows.append([rule, title, str(batch), *cells, _together(found)])
    return rows


def _of_family(comparable: Comparable, family: str) -> Comparable:
    return {
        name: by_batch
        for name, by_batch in comparable.items()
        if any(comparison.family(runs) == family for runs in by_batch.values())
    }


def _by_batch(by_batch: Mapping[int, Runs], number: str) -> ByBatch:
    found: dict[int, Measurement | None] = {
        batch: comparison.measured(runs, number) for batch, runs in by_batch.items()
    }
    return {batch: value for batch, value in found.items() if value is not None}


def _verdict(found: Headline | None) -> str:
    if found is None:
        return DASH
    if found.ratio is not None:
        return f"{found.ratio:g} ({signed_points(found.lead)})"
    number = found.lead if found.matters else found.gain
    return f"{found.verdict} ({signed_points(number) if number else DASH})"


def _together(found: Mapping[str, Headline | None]) -> str:
    """The least ratio of all numbers that were measured; a dash if one of them has no ratio."""
    measured = [one for one in found.values() if one is not None]
    if any(one.ratio is None for one in measured):
        return DASH
    return f"{min(one.ratio for one in measured):g}"
