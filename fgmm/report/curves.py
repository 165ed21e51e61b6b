"""Curves of training: the metrics that runs wrote at each step, in panels with shared axes."""

import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from fgmm.config import ConfigError

# The size of a panel, and the room of its axes on each side, in units of its view box.
WIDTH, HEIGHT = 380, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 8, 26
# The most points of a curve; each stands for an equal stretch of steps.
_POINTS = 240
# Curves besides the losses: key, title, and whether values are summed over steps.
_OTHERS = (
    ("learning_rate", "Learning rate", False),
    ("gradient_norm", "Norm of the gradient", False),
    ("clips_per_second", "Speed, clips a second", False),
    ("data_wait", "Share of time spent waiting for data", False),
    ("skipped", "Steps skipped so far", True),
)

# The metrics of a run by name, arrays of one length.
Series = Mapping[str, Float[np.ndarray, "_"]]


class Line(NamedTuple):
    """A run's curve in a panel, in the units of its view box.

    Attributes:
      run: number of the run.
      points: means over equal stretches of steps, as the attribute of an SVG ``polyline``.
      band: the range within these stretches, as the attribute of an SVG ``polygon``; empty if no
        stretch has more than one value.
      last: the last of the means, as text.
      count: number of points.
    """

    run: int
    points: str
    band: str
    last: str
    count: int


class Panel(NamedTuple):
    """A plot of one number over steps; a tick is a place in the view box and a label."""

    key: str
    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def read(workdir: pathlib.Path) -> dict[str, Float[np.ndarray, "S"]]:
    """The metrics of a run by name, S lines; NaN in lines without the number.

    ``step`` is one of the names. Results of ``fgmm.eval.watch`` stand in the line of their step.

    Raises:
      ConfigError: the run has written no metrics.
    """
    path = workdir / "metrics.jsonl"
    try:
        lines = {line["step"]: line for line in _lines(path)}
    except OSError as error:
        raise ConfigError(
            f"--workdir={workdir} is no run that has trained: {path} cannot be read "
            f"({error.strerror})"
        ) from error
    if not lines:
        raise ConfigError(f"--workdir={workdir}: {path} has no step yet; wait for the first one")
    for watched in sorted((workdir / "watch").glob("*.jsonl")):
        for line in _lines(watched):
            if line["step"] in lines:
                lines[line["step"]] |= {k: v for k, v in line.items() if k != "weights"}
    names = sorted({name for line in lines.values() for name in line})
    return {
        name: np.array(
            [math.nan if line.get(name) is None else line[name] for line in lines.values()],
            np.float64,
        )
        for name in names
    }


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        for text in file:
            try:
                yield json.loads(text)
            except json.JSONDecodeError:  # the last line of a run that was killed
                continue


def panels(runs: Sequence[Series]) -> dict[str, list[Panel]]:
    """Panels by heading, for every number that any of the runs has."""
    known = sorted({key for run in runs for key in run})
    terms = [key for key in known if key.startswith("loss/")]
    # A number with an interval is a figure of an evaluation; a curve needs at least two of them.
    measured = [key for key in known if f"{key}_low" in known and _values(runs, key) > 1]
    groups = {
        "Loss, and by term": [
            ("loss", "the whole objective", False),
            *((key, key.removeprefix("loss/"), False) for key in terms),
        ],
        "Optimizer and speed": [entry for entry in _OTHERS if entry[0] in known],
        "Evaluations inside training": [
            (key, re.sub(r"[/_]", " ", key), False) for key in measured
        ],
    }
    drawn = {
        heading: [_panel(runs, *entry) for entry in entries if _values(runs, entry[0])]
        for heading, entries in groups.items()
    }
    return {heading: panels for heading, panels in drawn.items() if panels}


def _values(runs: Sequence[Series], key: str) -> int:
    """The most values that one of the runs has of a number."""
    counts = (int(np.isfinite(run[key]).sum()) for run in runs if key in run)
    return max(counts, default=0)


def _panel(runs: Sequence[Series], key: str, title: str, summed: bool) -> Panel:
    curves = {}
    for number, run in enumerate(runs):
        values = run.get(key, np.array([]))
        finite = np.isfinite(values)
        if finite.any():
            kept = values[finite]
            curves[number] = _thinned(run["step"][finite], np.cumsum(kept) if summed else kept)
    x_limits, x_at = _axis([curve[0] for curve in curves.values()], from_zero=True)
    y_limits, y_at = _axis([_shown(curve) for curve in curves.values()])
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: Any) -> Any:
        return LEFT + width * (value - x_limits[0]) / (x_limits[1] - x_limits[0])

    def y(value: Any) -> Any:
        return TOP + height * (y_limits[1] - value) / (y_limits[1] - y_limits[0])

    lines = []
    for number, (steps, mean, low, high) in curves.items():
        band = ""
        if (high > low).any():
            outline = [*zip(x(steps), y(high), strict=True)]
            outline += [*zip(x(steps), y(low), strict=True)][::-1]
            band = _spelled(outline)
        points = _spelled(zip(x(steps), y(mean), strict=True))
        lines.append(Line(number, points, band, f"{mean[-1]:.4g}", len(steps)))
    return Panel(
        key,
        title,
        lines,
        [(float(x(at)), f"{at:,.0f}") for at in x_at],
        [(float(y(at)), f"{at:g}") for at in y_at],
    )


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """The last step, mean, minimum and maximum of each of at most ``_POINTS`` equal stretches."""
    parts = [
        (part_steps[-1], part.mean(), part.min(), part.max())
        for part_steps, part in zip(
            *(np.array_split(a, min(_POINTS, len(a))) for a in (steps, values)), strict=True
        )
    ]
    return tuple(np.array(column, float) for column in zip(*parts, strict=True))


def _shown(curve: tuple[np.ndarray, ...]) -> np.ndarray:
    """Values that an axis must show: the means, and all but 1% of the minima and the maxima."""
    _, mean, low, high = curve
    return np.concatenate([mean, np.quantile(low, [0.01]), np.quantile(high, [0.99])])


def _axis(
    values: Sequence[np.ndarray], from_zero: bool = False
) -> tuple[tuple[float, float], list[float]]:
    """The limits of an axis, and its ticks: a few round numbers within them."""
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    low = 0.0 if from_zero else low
    if high == low:
        low, high = (0.0, 1.0) if not low else (low - 0.5 * abs(low), low + 0.5 * abs(low))
    room = 0 if from_zero else 0.04 * (high - low)
    low, high = float(low - room), float(high + room)
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return (low, high), [float(tick) for tick in ticks if low <= tick <= high]


def _spelled(points: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
