"""What was tried in tuning, as tables of a study's page."""

import collections
from collections.abc import Mapping
from typing import Any

from fgmm.study.markdown import markdown_table

METHOD = """\
R@10 of each cell that was tried, both directions, by the score of the arm; one seed, on data for
tuning alone. The best has a star, and the stage `run` takes its values. Columns: {axes}."""


def make(choices: Mapping[str, Any]) -> str:
    """The part of the page on tuning, in Markdown: a table for each set of values that was tried,
    with a row for each group.

    Args:
      choices: the file of the choices; see ``fgmm.study.tuning``.
    """
    tables = collections.defaultdict(list)
    for choice in choices["choices"]:
        columns = tuple(", ".join(map(str, values)) for *values, _ in choice["tried"])
        qualities = [quality for *_, quality in choice["tried"]]
        # Of equal cells the first was chosen.
        best = qualities.index(choice["quality"])
        cells = [f"{_percent(q)}{'*' if i == best else ''}" for i, q in enumerate(qualities)]
        tables[columns].append([*map(str, choice["at"]), *cells])
    axes = ", ".join(axis.replace("_", " ") for axis in choices["chosen"])
    by = choices["by"]
    return "\n\n".join(
        [
            f"## Tuning\n\n{METHOD.format(axes=axes)}",
            *(markdown_table([*by, *columns], rows, len(by)) for columns, rows in tables.items()),
        ]
    )


def _percent(value: float | None) -> str:
    return "failed" if value is None else f"{100 * value:.1f}%"
