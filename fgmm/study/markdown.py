"""Tables in Markdown, and numbers in their cells."""

from collections.abc import Sequence

from fgmm.study.intervals import Interval, Measurement, interval

# In the place of a number that is not known.
DASH = "–"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """An aligned Markdown table; the first ``left`` columns hold words, the others numbers."""
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    return "\n".join([line(head), line(rule), *map(line, rows)])


def plain(value: object) -> str:
    """A value of an axis."""
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) else str(value)


def percent(found: Measurement | None) -> str:
    """The mean of a share over seeds ± half of its interval."""
    return DASH if found is None else _with_half(interval(found), "{:.1f}%")


def signed_points(of: Interval) -> str:
    """A difference of shares ± half of its interval, in points of percent."""
    return _with_half(of, "{:+.1f}")


def factor(times: float | None) -> str:
    """How many times."""
    return DASH if times is None else f"{times:.1f}×"


def _with_half(of: Interval, form: str) -> str:
    # An unknown half is NaN.
    half = "" if of.half != of.half else f" ± {100 * of.half:.1f}"
    return form.format(100 * of.mean) + half
