"""What was tried in tuning, as tables of a study's page."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from fgmm.study import comparison
from fgmm.study.markdown import markdown_table
from fgmm.study.outcome import Result

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


def other_values(results: Sequence[Result], choices: Mapping[str, Any]) -> list[str]:
    """The names of tuned cells whose values are not those that are chosen for them.

    Args:
      results: of the stage "run".
      choices: as above.
    """
    chosen = {tuple(choice["at"]): choice["chosen"] for choice in choices["choices"]}
    defaults = comparison.defaults(results)
    names = []
    for result in results:
        at = defaults | result["coordinates"]
        wanted = chosen.get(tuple(at.get(axis) for axis in choices["by"]), {})
        if result["chosen"] and any(at.get(axis, v) != v for axis, v in wanted.items()):
            names.append(result["name"])
    return names


def _percent(value: float | None) -> str:
    return "failed" if value is None else f"{100 * value:.1f}%"
