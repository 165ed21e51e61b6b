"""A page of tables and figures from the result files of a study.

    python -m fgmm.study.page --results=DIR --output=PAGE.md

``DIR`` is the folder ``results`` of a study. The figures are written beside the page, into
``PAGE_figures``. The tables are also printed.
"""

import collections
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from absl import flags

from fgmm import command_line, provenance
from fgmm.config import ConfigError
from fgmm.study import comparison, figures, outcome, tuning, tuning_table
from fgmm.study.comparison import BOTH, COARSE_SCORE, JUDGED, OTHER_PAIRS, PROBE, Point, Runs
from fgmm.study.headline import ByBatch, Headline, headline, rising
from fgmm.study.intervals import Interval, Measurement, difference, interval
from fgmm.study.markdown import markdown_table
from fgmm.study.schedule import duration

METHOD = """\
R@10 is that of the score of each arm. A number is the mean over seeds ± half of its 95% interval,
which holds two sources of chance: the seeds (Student's interval) and the queries (bootstrap). The
column "less best coarse" is the difference from the best coarse arm of the same rows, paired by
seed and by query, with its interval. An interval of one seed holds the queries alone. "Fewer
examples", "FLOPs" and "seconds": how many times fewer the arm takes to the highest point of that
coarse arm's learning curve; – means that it does not reach it."""

OTHERS = """\
R@10 is of pictures with words. The column that names another pair has its R@10, both directions, by
the same score; in brackets, the difference from the same coarse arm."""

RATIO = """\
The ratio is B/b: fine training at a batch of b is at least as good as the best coarse arm over all
batches up to B. It counts only where coarse itself gains from b to B by more than the interval of
the difference; elsewhere batch does not matter. In brackets: fine less that coarse arm, or the gain
of coarse."""

OTHER_VALUES = """\
**Cells without the values that tuning chose:** {names}. The rows with them do not hold; run the
study again."""

_DASH = "–"
_Y_LABEL = "R@10, both directions"


def make(results: pathlib.Path, output: pathlib.Path) -> str:
    """Writes the page and its figures.

    Args:
      results: the folder ``results`` of a study.
      output: the Markdown file.

    Returns:
      The tables, in Markdown.

    Raises:
      ConfigError: there are no results, or a file is none.
    """
    found = outcome.read_all(results / "run")
    if not found:
        raise ConfigError(f"--results={results}: there is no run/*.json in it; run a study first")
    points = comparison.points(found)
    parts = [_ratios(points), _comparisons(points)]
    if choices := tuning.read(results / tuning.CHOICE):
        parts.append(tuning_table.make(choices))
        if names := tuning_table.other_values(found, choices):
            parts.insert(0, OTHER_VALUES.format(names=", ".join(names)))
    tables = "\n\n".join(parts)
    folder = output.with_name(f"{output.stem}_figures")
    pictures = "\n\n".join(
        f"![{caption}]({folder.name}/{name}.svg)\n\n{caption}."
        for name, caption in _figures(points, folder)
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    title = f"Coarse against fine: {_experiments(found)}"
    output.write_text(f"# {title}\n\n{_origin(found)}{_shared(points)}\n\n{tables}\n\n{pictures}\n")
    return tables


def _experiments(found: Sequence[outcome.Result]) -> str:
    return ", ".join(sorted({run["experiment"] for run in found}))


def _origin(found: Sequence[outcome.Result]) -> str:
    starts = [start for run in found for start in run["trained"]["started"]]
    seeds = ", ".join(map(str, sorted({run["coordinates"]["seed"] for run in found})))
    spent = duration(sum(run["wall_seconds"] for run in found))
    return (
        f"{len(found)} cells of {_experiments(found)}; seeds {seeds}; {spent} on one core each; "
        f"{provenance.in_words(starts)}."
    )


def _shared(points: Iterable[Point]) -> str:
    """A sentence on the axes that have one value in all cells; empty if there is none."""
    first, *others = map(set, points)
    names = [
        f"{axis}={value}" for axis, value in sorted(first.intersection(*others)) if value != ""
    ]
    return f" All have {', '.join(names)}." if names else ""


def _comparisons(points: Mapping[Point, Mapping[str, Runs]]) -> str:
    """A table for each set of pairs, with a row for each arm at each point."""
    parts = ["## Arms at every point", METHOD]
    by_pairs = collections.defaultdict(dict)
    for point, arms in points.items():
        by_pairs[dict(point).get("pairs", "")][point] = arms
    for pairs, of_pairs in by_pairs.items():
        known = {axis for point in of_pairs for axis, _ in point}
        axes = [axis for axis in ("batch", "noise", "updates") if axis in known]
        varying = comparison.varying(list(of_pairs))
        axes += [axis for axis in varying if axis not in (*axes, "examples")]
        others = _other_pairs(of_pairs)
        head = [
            *(*axes, "arm", "text to clip", "clip to text", "both", "less best coarse"),
            *("coarse score", *([", ".join(others)] if others else []), "motion probe"),
            *("fewer examples", "fewer FLOPs", "fewer seconds", "seeds"),
        ]
        rows = [
            [*(_value(dict(point).get(axis)) for axis in axes), *cells]
            for point, arms in of_pairs.items()
            for cells in _rows(arms, bool(others))
        ]
        table = markdown_table(head, rows, left=len(axes) + 1)
        parts += [f"### {pairs or 'All'}", *([OTHERS] if others else []), table]
    return "\n\n".join(parts)


def _other_pairs(points: Mapping[Point, Mapping[str, Runs]]) -> list[str]:
    """The pairs that are retrieved beside the judged one, in some run."""
    runs = [run for arms in points.values() for of_arm in arms.values() for run in of_arm]
    return sorted({pair for run in runs for pair in comparison.other_pairs(run)})


def _rows(arms: Mapping[str, Runs], others: bool) -> list[list[str]]:
    """A row for each arm at one point; coarse arms first, the best of each family first."""
    best = comparison.best_coarse(arms)
    both = {name: comparison.measured(runs, BOTH) for name, runs in arms.items()}
    other = {}
    if others:
        other = {name: comparison.measured(runs, OTHER_PAIRS) for name, runs in arms.items()}
    order = sorted(arms, key=lambda name: (comparison.family(arms[name]), -both[name].mean))
    rows = []
    for name in order:
        runs = arms[name]
        less, times = None, {}
        if best is not None and name != best:
            less = difference(both[name], both[best])
            times = comparison.savings(runs, arms[best])
        rows.append(
            [
                runs[0]["arm"]["title"],
                *(_share(comparison.measured(runs, number)) for number in (*JUDGED[:2], BOTH)),
                _signed(less) if less else _DASH,
                _share(comparison.measured(runs, COARSE_SCORE)),
                *([_with_difference(other, name, best)] if others else []),
                _share(comparison.measured(runs, PROBE)),
                *(_times(times.get(unit)) for unit in ("examples", "flops", "seconds")),
                str(len(runs)),
            ]
        )
    return rows


def _with_difference(found: Mapping[str, Measurement | None], name: str, best: str | None) -> str:
    """The number of one arm, and in brackets how far it is from that of the best coarse arm."""
    of_arm, of_best = found[name], found.get(best) if best != name else None
    less = difference(of_arm, of_best) if of_arm and of_best else None
    return f"{_share(of_arm)} ({_signed(less)})" if less else _share(of_arm)


def _ratios(points: Mapping[Point, Mapping[str, Runs]]) -> str:
    """The table of ratios of batches, with a row for each fine arm, batch and rule."""
    head = ["pairs", "noise", "rule", "arm", "b", *JUDGED, "all of them"]
    groups = collections.defaultdict(dict)
    for point, arms in points.items():
        groups[comparison.without(point, "batch", "updates", "examples")][point] = arms
    others = [axis for axis in comparison.varying(list(groups)) if axis not in ("pairs", "noise")]
    rows = [
        [*(_value(dict(group).get(axis)) for axis in ("pairs", "noise", *others)), *cells]
        for group, of_group in groups.items()
        for rule, comparable in rules(of_group).items()
        for cells in _ratio_rows(rule, comparable)
    ]
    table = markdown_table(head[:2] + others + head[2:], rows, left=4 + len(others))
    if not rows:
        table = "No fine arm shares a batch with a coarse arm that has a larger one as well."
    return f"## The ratio of batches\n\n{RATIO}\n\n{table}"


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
        return _DASH
    if found.ratio is not None:
        return f"{found.ratio:g} ({_signed(found.lead)})"
    number = found.lead if found.matters else found.gain
    return f"{found.verdict} ({_signed(number) if number else _DASH})"


def _together(found: Mapping[str, Headline | None]) -> str:
    """The least ratio of all numbers that were measured; a dash if one of them has no ratio."""
    measured = [one for one in found.values() if one is not None]
    if any(one.ratio is None for one in measured):
        return _DASH
    return f"{min(one.ratio for one in measured):g}"


def _figures(
    points: Mapping[Point, Mapping[str, Runs]], folder: pathlib.Path
) -> list[tuple[str, str]]:
    """Draws all figures; returns the name of each file, without a suffix, and its caption."""
    drawn = []
    fixed = {"batch": ("updates", "examples"), "noise": ("updates",), "updates": ("",)}
    varying = comparison.varying(list(points))
    axes = [axis for axis in varying if axis not in ("pairs", "updates", "examples")]
    for axis in [*axes, *(["updates"] if "updates" in varying else [])]:
        for at_equal in fixed.get(axis, ("updates",)):
            panels = _panels(points, axis, at_equal)
            if not panels:
                continue
            name = f"{axis}_at_equal_{at_equal}" if axis == "batch" else axis
            also = f", at equal {at_equal}" if axis == "batch" else ""
            figures.draw(
                panels,
                x_label=axis,
                y_label=_Y_LABEL,
                output=folder / name,
                logarithmic=_logarithmic(axis, panels),
            )
            drawn.append((name, f"R@10 against {axis}{also}, with 95% intervals"))
    for pairs in dict.fromkeys(dict(point).get("pairs", "") for point in points):
        panels = _curves(
            {p: arms for p, arms in points.items() if dict(p).get("pairs", "") == pairs}
        )
        if not any(len(line.x) > 1 for panel in panels for line in panel.lines):
            continue
        name = f"curves_{pairs}".rstrip("_")
        figures.draw(
            panels,
            x_label="clips seen in training",
            y_label=_Y_LABEL,
            output=folder / name,
        )
        drawn.append((name, f"Learning curves, {pairs or 'all pairs'}: means over seeds"))
    return drawn


def _logarithmic(axis: str, panels: Sequence[figures.Panel]) -> bool:
    """Whether an axis is drawn on a logarithmic scale, which has no place for 0."""
    above_zero = all(x > 0 for panel in panels for line in panel.lines for x in line.x)
    return above_zero and axis not in ("noise", "clutter")


def _panels(
    points: Mapping[Point, Mapping[str, Runs]], axis: str, at_equal: str
) -> list[figures.Panel]:
    """A panel for each group of points that differ on one axis; none if a value on it is text.

    Args:
      points: the runs.
      axis: the x axis.
      at_equal: "updates" or "examples", on which the points of a panel agree; "" for neither.
    """
    dependent = {"updates", "examples"} - {at_equal}
    groups = collections.defaultdict(lambda: collections.defaultdict(dict))
    for point, arms in points.items():
        if axis not in (at := dict(point)):
            continue
        if not comparison.is_number(at[axis]):
            return []
        group = comparison.without(point, axis, *dependent)
        for name, runs in arms.items():
            groups[group][name][at[axis]] = runs
    shown = {
        group: arms for group, arms in groups.items() if any(len(by) > 1 for by in arms.values())
    }
    titles = _titles(list(shown))
    return [
        figures.Panel(
            titles[group],
            [_line(by_value) for by_value in arms.values() if len(by_value) > 1],
        )
        for group, arms in shown.items()
    ]


def _line(by_value: Mapping[int | float, Runs]) -> figures.Line:
    xs = sorted(by_value)
    found = [interval(comparison.measured(by_value[x], BOTH)) for x in xs]
    arm = by_value[xs[0]][0]["arm"]
    return figures.Line(
        *(arm["title"], arm["family"], xs, [f.mean for f in found], [f.half for f in found])
    )


def _curves(points: Mapping[Point, Mapping[str, Runs]]) -> list[figures.Panel]:
    titles = _titles(list(points))
    panels = []
    for point, arms in points.items():
        lines = []
        for runs in arms.values():
            found, arm = comparison.curve(runs), runs[0]["arm"]
            none = [float("nan")] * len(found["value"])
            lines.append(
                figures.Line(
                    *(arm["title"], arm["family"], found["examples"], found["value"], none)
                )
            )
        panels.append(figures.Panel(titles[point], lines))
    return panels


def _titles(points: Sequence[Point]) -> dict[Point, str]:
    """A title for each panel: the pairs, and the values that tell it from the others."""
    varying = comparison.varying(points)
    axes = ["pairs", *(axis for axis in varying if axis not in ("pairs", "examples"))]
    if "examples" in varying and "updates" not in varying:
        axes.append("examples")
    titles = {}
    for point in points:
        at = dict(point)
        words = [
            at[axis] if axis == "pairs" else f"{axis} {_value(at[axis])}"
            for axis in axes
            if axis in at
        ]
        titles[point] = ", ".join(words)
    return titles


def _value(value: object) -> str:
    if value is None:
        return _DASH
    return f"{value:,}" if isinstance(value, int) else str(value)


def _share(found: Measurement | None) -> str:
    if found is None:
        return _DASH
    of = interval(found)
    half = "" if of.half != of.half else f" ± {100 * of.half:.1f}"
    return f"{100 * of.mean:.1f}%{half}"


def _signed(of: Interval) -> str:
    half = "" if of.half != of.half else f" ± {100 * of.half:.1f}"
    return f"{100 * of.mean:+.1f}{half}"


def _times(times: float | None) -> str:
    return _DASH if times is None else f"{times:.1f}×"


def main(argv: list[str]) -> None:
    """Makes the page and prints its tables."""
    del argv
    results = pathlib.Path(command_line.required("results"))
    output = command_line.file_to_write(command_line.required("output"))
    print(make(results, output))
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    flags.DEFINE_string("results", None, "The folder 'results' of a study.")
    flags.DEFINE_string("output", None, "The Markdown file.")
    command_line.run(main)
