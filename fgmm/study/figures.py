"""Figures of a study, as SVG and PNG: one panel for each point, one line for each arm."""

import math
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter

_INK, _MUTED, _GRID = "#1f2430", "#6b7280", "#e5e7eb"
# Coarse arms are grey and dashed; fine arms have colours that colour-blind people can tell apart
# (Okabe and Ito, Color Universal Design, 2008).
_COARSE = ("#1f2430", "#7b8494", "#b4bac4")
_FINE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d00")
_MARKERS = "osD^vPX"
_CHARACTERS = 40  # of a title, or of the legend with its markers, that fit above one panel


class Line(NamedTuple):
    """An arm in a panel.

    Attributes:
      title: of the arm.
      family: "coarse" or "fine".
      x: ascending.
      y: the value at each x.
      half: half the width of the interval at each x; NaN for no interval.
    """

    title: str
    family: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float]


class Panel(NamedTuple):
    """One plot of a figure."""

    title: str
    lines: Sequence[Line]


def draw(
    panels: Sequence[Panel],
    *,
    x_label: str,
    y_label: str,
    output: pathlib.Path,
    logarithmic: bool = False,
    columns: int = 3,
) -> None:
    """Writes a figure as ``output.svg`` and ``output.png``.

    Args:
      panels: at least one.
      x_label, y_label: of all panels; y is a share and is shown in percent.
      output: path of the file without a suffix.
      logarithmic: whether the x axis is logarithmic, with base 2; x must then be above 0.
      columns: the most panels in a row.
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(
        figsize=(3.4 * columns + 0.4, 2.9 * rows + 0.9), layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    styles = _styles(panels)
    for place, panel in zip(axes, panels, strict=False):
        for line in panel.lines:
            _plot(place, line, styles[line.title])
        _finish(place, panel, logarithmic)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    for number, place in enumerate(axes[: len(panels)]):
        if number % columns == 0:
            place.set_ylabel(y_label, color=_INK, fontsize=9)
        if number + columns >= len(panels):
            place.set_xlabel(x_label, color=_INK, fontsize=9)
    handles = {}
    for place in figure.axes:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        [handles[title] for title in styles],
        list(styles),
        loc="outside upper center",
        ncols=min(len(styles), max(1, round(_CHARACTERS * columns / max(map(len, styles))))),
        frameon=False,
        fontsize=9,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    # Makes the bytes of the SVG depend on the results alone.
    with matplotlib.rc_context({"svg.hashsalt": "fgmm", "svg.fonttype": "path"}):
        figure.savefig(output.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(output.with_suffix(".png"), dpi=110)


def _styles(panels: Sequence[Panel]) -> Mapping[str, dict]:
    """The look of each arm, the same in all panels; coarse arms first."""
    families = {line.title: line.family for panel in panels for line in panel.lines}
    styles = {}
    for name, colours, dashes in (("coarse", _COARSE, "--"), ("fine", _FINE, "-")):
        titles = sorted(title for title, of in families.items() if of == name)
        for number, title in enumerate(titles):
            styles[title] = {
                "color": colours[number % len(colours)],
                "linestyle": dashes,
                "marker": _MARKERS[number % len(_MARKERS)],
            }
    return styles


def _plot(place, line: Line, style: dict) -> None:
    known = [0.0 if math.isnan(half) else half for half in line.half]
    place.errorbar(
        *(line.x, line.y),
        yerr=known if any(known) else None,
        capsize=2.5,
        elinewidth=1,
        linewidth=1.6,
        markersize=4,
        label=line.title,
        **style,
    )


def _finish(place, panel: Panel, logarithmic: bool) -> None:
    place.set_title(textwrap.fill(panel.title, _CHARACTERS), fontsize=9.5, color=_INK)
    place.set_ylim(0, 1)
    place.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if logarithmic:
        place.set_xscale("log", base=2)
        ticks = sorted({x for line in panel.lines for x in line.x})
        place.xaxis.set_major_locator(FixedLocator(ticks))
        place.xaxis.set_minor_formatter(NullFormatter())
    else:
        place.locator_params(axis="x", nbins=5)
    place.xaxis.set_major_formatter(lambda x, _: f"{x:,g}")
    place.tick_params(labelsize=8.5, colors=_MUTED, labelleft=True)
    place.grid(True, color=_GRID, linewidth=0.8)
    place.set_axisbelow(True)
    place.spines[["top", "right"]].set_visible(False)
    place.spines[["left", "bottom"]].set_color(_GRID)
