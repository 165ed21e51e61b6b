"""A page of tables and figures from the result files of a study.

    python -m fgmm.study.page --results=DIR --output=PAGE.md

``DIR`` is the folder ``results`` of a study. The figures are written beside the page, into
``PAGE_figures``. The tables are also printed. Arms are compared with the best coarse one, or with
the arm that ``--baseline`` names, at the end and at equal FLOPs, or seconds by ``--equal=seconds``.
"""

import collections
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from absl import flags

from fgmm import command_line, provenance
from fgmm.config import ConfigError
from fgmm.study import comparison, figures, outcome, ratio_table, tuning, tuning_table
from fgmm.study.comparison import BOTH, COARSE_SCORE, JUDGED, OTHER_PAIRS, PROBE, Point, Runs
from fgmm.study.intervals import Measurement, difference, interval
from fgmm.study.markdown import DASH, factor, markdown_table, percent, plain, signed_points
from fgmm.study.schedule import duration

METHOD = """\
R@10 is that of the score of each arm. A number is the mean over seeds ± half of its 95% interval,
which holds two sources of chance: the seeds (Student's interval) and the queries (bootstrap). The
column "less {baseline}" is the difference from {the_baseline} of the same rows, paired by
seed and by query, with its interval. An interval of one seed holds the queries alone. "Fewer
examples", "FLOPs" and "seconds": how many times fewer the arm takes to the highest point of the
learning curve of {the_baseline}; – means that it does not reach it. "At equal {unit}" is R@10, both
directions, when the cheapest arm of the same rows has ended: the learning curve at that point,
straight between evaluations; its interval holds the seeds alone. Seconds are of training, and
depend on what else the machine did."""

OTHERS = """\
R@10 is of pictures with words. The column that names another pair has its R@10, both directions, by
the same score; in brackets, the difference from the same arm."""

OTHER_VALUES = """\
**Cells without the values that tuning chose:** {names}. The rows with them do not hold; run the
study again."""

_Y_LABEL = "R@10, both directions"


def make(
    results: pathlib.Path,
    output: pathlib.Path,
    *,
    title: str = "",
    baseline: str = "",
    unit: str = "FLOPs",
) -> str:
    """Writes the page and its figures.

    Args:
      results: the folder ``results`` of a study.
      output: the Markdown file.
      title: of the page; by default it says what is compared, and on which experiment.
      baseline: the arm that others are compared with, by its name; by default the best coarse one
        at each point.
      unit: "FLOPs" or "seconds", at which arms are also compared.

    Returns:
      The tables, in Markdown.

    Raises:
      ConfigError: there are no results, or a file is none, or no result is of the baseline.
    """
    found = outcome.read_all(results / "run")
    if not found:
        raise ConfigError(f"--results={results}: there is no run/*.json in it; run a study first")
    titles = {run["coordinates"]["arm"]: run["arm"]["title"] for run in found}
    if baseline and baseline not in titles:
        raise ConfigError(f"--baseline={baseline} is no arm of {results}; arms: {sorted(titles)}")
    points = comparison.points(found)
    parts = [_comparisons(points, baseline, titles.get(baseline, ""), unit)]
    if any(run["arm"]["family"] == "coarse" for run in found):
        parts.insert(0, ratio_table.make(points))
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
    heading = title or f"Coarse against fine: {_experiments(found)}"
    output.write_text(
        f"# {heading}\n\n{_origin(found)}{_shared(points)}\n\n{tables}\n\n{pictures}\n"
    )
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


def _comparisons(
    points: Mapping[Point, Mapping[str, Runs]], baseline: str, its_title: str, unit: str
) -> str:
    """A table for each set of pairs, with a row for each arm at each point."""
    named = its_title or "best coarse"
    the_baseline = f"the arm *{its_title}*" if its_title else "the best coarse arm"
    method = METHOD.format(baseline=named, the_baseline=the_baseline, unit=unit)
    parts = ["## Arms at every point", textwrap.fill(method, 100)]
    for pairs, of_pairs in _by_pairs(points).items():
        known = {axis for point in of_pairs for axis, _ in point}
        axes = [axis for axis in ("batch", "noise", "updates") if axis in known]
        varying = comparison.varying(list(of_pairs))
        axes += [axis for axis in varying if axis not in (*axes, "examples")]
        others = _other_pairs(of_pairs)
        head = [
            *(*axes, "arm", "text to clip", "clip to text", "both", f"less {named}"),
            *("coarse score", *([", ".join(others)] if others else []), "motion probe"),
            *("fewer examples", "fewer FLOPs", "fewer seconds", f"at equal {unit}", "seeds"),
        ]
        rows = [
            [*(plain(dict(point).get(axis)) for axis in axes), *cells]
            for point, arms in of_pairs.items()
            for cells in _rows(arms, baseline, unit.lower(), bool(others))
        ]
        table = markdown_table(head, rows, left=len(axes) + 1)
        parts += [f"### {pairs or 'All'}", *([OTHERS] if others else []), table]
    return "\n\n".join(parts)


def _by_pairs(
    points: Mapping[Point, Mapping[str, Runs]],
) -> dict[str, dict[Point, Mapping[str, Runs]]]:
    """The points by their pairs; one name, "", for all without this axis."""
    found = collections.defaultdict(dict)
    for point, arms in points.items():
        found[dict(point).get("pairs", "")][point] = arms
    return found


def _other_pairs(points: Mapping[Point, Mapping[str, Runs]]) -> list[str]:
    """The pairs that are retrieved beside the judged one, in some run."""
    runs = [run for arms in points.values() for of_arm in arms.values() for run in of_arm]
    return sorted({pair for run in runs for pair in comparison.other_pairs(run)})


def _rows(arms: Mapping[str, Runs], baseline: str, unit: str, others: bool) -> list[list[str]]:
    """A row for each arm at one point; coarse arms first, the best of each family first."""
    best = comparison.best_coarse(arms)
    if baseline:
        best = baseline if baseline in arms else None
    cost = comparison.least_cost(arms, unit)
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
                *(percent(comparison.measured(runs, number)) for number in (*JUDGED[:2], BOTH)),
                signed_points(less) if less else DASH,
                percent(comparison.measured(runs, COARSE_SCORE)),
                *([_with_difference(other, name, best)] if others else []),
                percent(comparison.measured(runs, PROBE)),
                *(factor(times.get(unit)) for unit in ("examples", "flops", "seconds")),
                percent(comparison.at_cost(runs, unit, cost)),
                str(len(runs)),
            ]
        )
    return rows


def _with_difference(found: Mapping[str, Measurement | None], name: str, best: str | None) -> str:
    """The number of one arm, and in brackets how far it is from that of the baseline."""
    of_arm, of_best = found[name], found.get(best) if best != name else None
    less = difference(of_arm, of_best) if of_arm and of_best else None
    return f"{percent(of_arm)} ({signed_points(less)})" if less else percent(of_arm)


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
    for pairs, of_pairs in _by_pairs(points).items():
        panels = _curves(of_pairs)
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
            at[axis] if axis == "pairs" else f"{axis} {plain(at[axis])}"
            for axis in axes
            if axis in at
        ]
        titles[point] = ", ".join(words)
    return titles


def main(argv: list[str]) -> None:
    """Makes the page and prints its tables."""
    del argv
    results = pathlib.Path(command_line.required("results"))
    output = command_line.file_to_write(command_line.required("output"))
    given = flags.FLAGS
    print(make(results, output, title=given.title, baseline=given.baseline, unit=given.equal))
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    flags.DEFINE_string("results", None, "The folder 'results' of a study.")
    flags.DEFINE_string("output", None, "The Markdown file.")
    flags.DEFINE_string("title", "", "Of the page.")
    flags.DEFINE_string("baseline", "", "The arm to compare with; by default the best coarse one.")
    flags.DEFINE_enum("equal", "FLOPs", ["FLOPs", "seconds"], "At which arms are also compared.")
    command_line.run(main)
