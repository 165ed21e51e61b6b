"""The ratios of batches and of widths, as tables of a study's page; see ``fgmm.study.headline``."""

import collections
from collections.abc import Mapping

from fgmm.study import comparison
from fgmm.study.comparison import JUDGED, Point, Runs
from fgmm.study.headline import BySize, Headline, headline, rising
from fgmm.study.intervals import Measurement
from fgmm.study.markdown import DASH, markdown_table, plain, signed_points

# The first columns of the tables.
_FIRST = ("pairs", "noise")

BATCHES = """\
The ratio is B/b: fine training at a batch of b is at least as good as the best coarse arm over all
batches up to B. It counts only where coarse itself gains from b to B by more than the interval of
the difference; elsewhere batch does not matter. In brackets: fine less that coarse arm, or the gain
of coarse."""

WIDTHS = """\
The ratio is W/w: fine training with encoders of width w is at least as good as the best coarse arm
over all widths up to W, at the same updates and examples. It counts as the ratio of batches does.
Encoders of twice the width have three to four times the parameters."""


def make(points: Mapping[Point, Mapping[str, Runs]]) -> str:
    """The part of the page on ratios, in Markdown: a row for each fine arm, size and rule.

    The ratios of widths are there if coarse arms were trained at several.

    Args:
      points: the runs of each arm at each point.
    """
    batches = _table(points, "batch")
    if not batches:
        batches = "No fine arm shares a batch with a coarse arm that has a larger one as well."
    parts = [f"## The ratio of batches\n\n{BATCHES}\n\n{batches}"]
    if widths := _table(points, "width"):
        parts.append(f"## The ratio of widths\n\n{WIDTHS}\n\n{widths}")
    return "\n\n".join(parts)


def _table(points: Mapping[Point, Mapping[str, Runs]], axis: str) -> str:
    """The ratios along an axis, "batch" or "width"; empty if there are none."""
    groups = collections.defaultdict(dict)
    for point, arms in points.items():
        groups[comparison.without(point, axis, "updates", "examples")][point] = arms
    others = [other for other in comparison.varying(list(groups)) if other not in _FIRST]
    rows = [
        [*(plain(dict(group).get(other)) for other in (*_FIRST, *others)), *cells]
        for group, of_group in groups.items()
        for rule, comparable in rules(of_group, axis).items()
        for cells in _ratio_rows(rule, comparable, axis)
    ]
    head = [*_FIRST, *others, "rule", "arm", axis[0], *JUDGED, "all of them"]
    return markdown_table(head, rows, left=4 + len(others)) if rows else ""


# The runs that one rule compares, by arm and size, which is the batch or the width.
Comparable = dict[str, dict[int | float, Runs]]


def rules(points: Mapping[Point, Mapping[str, Runs]], axis: str = "batch") -> dict[str, Comparable]:
    """The runs that each rule compares; see ``fgmm.study.headline`` for the rules.

    A rule is left out if no arm has several sizes by it.

    Args:
      points: points that differ only in updates, examples and the axis. Those that are not on the
        axis do not count.
      axis: that of the sizes, "batch" or "width".

    Returns:
      By rule: each number of updates, and of batches each number of examples as well, and
      ``plateau``.
    """
    points = {point: arms for point, arms in points.items() if axis in dict(point)}
    found: dict[str, Comparable] = {}
    for unit in ("updates", "examples") if axis == "batch" else ("updates",):
        for amount in sorted({dict(point)[unit] for point in points}):
            rule = found.setdefault(f"{amount:,} {unit}", collections.defaultdict(dict))
            for point, arms in points.items():
                if dict(point)[unit] == amount:
                    for name, runs in arms.items():
                        rule[name][dict(point)[axis]] = runs
    if axis == "batch":
        found["plateau"] = _plateau(points)
    return {
        rule: comparable
        for rule, comparable in found.items()
        if any(len(by_size) > 1 for by_size in comparable.values())
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


def _ratio_rows(rule: str, comparable: Comparable, axis: str) -> list[list[str]]:
    rows = []
    coarse = _of_family(comparable, "coarse")
    for by_size in _of_family(comparable, "fine").values():
        for size, runs in sorted(by_size.items()):
            found = {
                number: headline(
                    _measured(by_size, number),
                    {other: _measured(runs_of, number) for other, runs_of in coarse.items()},
                    *(size, axis),
                )
                for number in JUDGED
            }
            if any(found.values()):
                title = runs[0]["arm"]["title"]
                cells = [_verdict(found[number]) for number in JUDGED]
                rows.append([rule, title, str(size), *cells, _together(found)])
    return rows


def _of_family(comparable: Comparable, family: str) -> Comparable:
    return {
        name: by_size
        for name, by_size in comparable.items()
        if any(comparison.family(runs) == family for runs in by_size.values())
    }


def _measured(by_size: Mapping[int | float, Runs], number: str) -> BySize:
    found: dict[int | float, Measurement | None] = {
        size: comparison.measured(runs, number) for size, runs in by_size.items()
    }
    return {size: value for size, value in found.items() if value is not None}


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
