"""Results of evaluations as text: tables, and the notes below them."""

from collections.abc import Callable, Mapping, Sequence

# A number whose name has one of these parts is a share, from 0 to 1.
_SHARES = ("@", "accuracy", "hit", "mAP", "iou")


# Endings of the names of an interval's ends.
_ENDS = ("_low", "_high")


def table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    """An aligned table in Markdown, with a column for chance after each column that has it.

    Shares (see ``_SHARES``) are printed as percentages. The interval of a value, ``NAME_low`` and
    ``NAME_high`` of its row, stands behind it. A value that a row lacks is ``-``.

    Args:
      rows: numbers by name for each labelled row, such as ``retrieval_summary`` returns.
      columns: names to show. If any row has ``chance_NAME``, a column "chance" follows NAME's.

    Raises:
      ValueError: a column is in no row.
    """
    known = {name for row in rows.values() for name in row}
    missing = [name for name in columns if name not in known]
    if missing:
        raise ValueError(f"no row has {', '.join(missing)}; there are: {', '.join(sorted(known))}")
    shown = [
        (name, head)
        for column in columns
        for name, head in ((column, column), (f"chance_{column}", "chance"))
        if name in known
    ]
    cells = [["", *(head for _, head in shown)]]
    for label, row in rows.items():
        cells.append([label, *(_cell(name, row) if name in row else "-" for name, _ in shown)])
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    # A colon on the right aligns a column of numbers to the right in Markdown.
    cells.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    lines = []
    for label, *numbers in cells:
        aligned = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append(f"| {' | '.join([label.ljust(widths[0]), *aligned])} |")
    return "\n".join(lines)


def _cell(name: str, row: Mapping[str, float]) -> str:
    shown = _number(name, row[name])
    ends = [row[end] for end in (name + e for e in _ENDS) if end in row]
    if not ends:
        return shown
    return f"{shown} ({' to '.join(_number(name, end).removesuffix('%') for end in ends)})"


def _number(name: str, value: float) -> str:
    if any(part in name for part in _SHARES):
        return f"{100 * value:.2f}%"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table_of_ways(result: Mapping[str, float], title: Callable[[str, str], str]) -> str:
    """The table of numbers named ``WAY/KIND/MEASURE``, with a row for each way.

    Args:
      result: of an evaluation; it may hold other numbers too.
      title: maps a kind and a measure to the title of their column, or to "" to leave them out.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in result.items():
        way, _, measured = name.partition("/")
        kind, _, measure = measured.partition("/")
        end = next((end for end in _ENDS if measure.endswith(end)), "")
        if column := title(kind, measure.removesuffix(end)):
            rows.setdefault(way.replace("_", " "), {})[column + end] = value
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    return table(rows, [column for column in columns if not column.endswith(_ENDS)])


def shares(title: str, what: str, result: Mapping[str, float]) -> str:
    """A line of the shares whose names begin with ``what``, each with its interval.

    Shares without an interval are left out.
    """
    listed = [
        "{} {:.1%} ({:.1%} to {:.1%})".format(
            name.removeprefix(what), *(result[name + end] for end in ("", *_ENDS))
        )
        for name in result
        if name.startswith(what) and f"{name}_low" in result
    ]
    return f"{title}: {', '.join(listed)}"


def counts(bad_input: Mapping[str, int], left_out: Mapping[str, int]) -> dict[str, float]:
    """Counts of problems by reason, as entries of a result.

    Args:
      bad_input: what could not be read.
      left_out: what the source left out when it was opened.
    """
    found = {f"bad_input/{reason}": float(n) for reason, n in bad_input.items()}
    return found | {f"left_out/{reason}": float(n) for reason, n in left_out.items()}


def problems(result: Mapping[str, float]) -> str:
    """How many problems the input had, as text; empty if it had none."""
    count = sum(v for k, v in result.items() if k.startswith(("bad_input/", "left_out/")))
    return f"problems in the input: {count:.0f}, see the JSON" if count else ""
