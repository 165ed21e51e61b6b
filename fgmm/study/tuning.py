"""The choice of rates and temperatures from the results of tuning.

For every group of cells that agree in the axes ``by``, the values of the axes ``chosen`` are those
of the cell with the best mean of R@10 over both directions, by the score of its arm. Every group
has the same cells to choose from; one that failed, as with too high a rate, loses.
"""

import collections
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fgmm.study import outcome
from fgmm.study.grid import Cell, Stage
from fgmm.study.outcome import Result

METRIC = "mean of R@10 over both directions, by the score of the arm"
DIRECTIONS = ("text to clip", "clip to text")


def quality(result: Result) -> float:
    """The mean of R@10 over both directions, by the arm's score."""
    return sum(result["metrics"][result["judged"][way]] for way in DIRECTIONS) / len(DIRECTIONS)


def choose(
    stage: Stage, results: Mapping[str, Result], failed: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The choices for all groups whose cells are done or have failed.

    Args:
      stage: of tuning.
      results: of those of its cells that are done, by name.
      failed: names of cells that have failed.

    Returns:
      For each group ``at`` (values on ``by``), ``chosen`` (values by axis), ``quality`` of the
      best, ``at_edge`` (axes on which it is the least or the greatest of several values that were
      tried), ``tried`` (values and quality of each cell, None for one that failed).
    """
    groups = collections.defaultdict(list)
    for cell in stage.cells:
        groups[cell.at(stage.by)].append(cell)
    choices = []
    for at, cells in groups.items():
        tried = [
            (cell, quality(results[cell.name]) if cell.name in results else None) for cell in cells
        ]
        if any(value is None and cell.name not in failed for cell, value in tried):
            continue
        if all(value is None for _, value in tried):
            continue
        # The first of equals wins, so that the choice does not depend on the order of running.
        best, score = max(tried, key=lambda pair: -1.0 if pair[1] is None else pair[1])
        choices.append(
            {
                "at": list(at),
                "chosen": {axis: best.coordinates[axis] for axis in stage.chosen},
                "quality": round(score, 6),
                "at_edge": [axis for axis in stage.chosen if _at_edge(axis, best, cells)],
                "tried": [
                    [*cell.at(stage.chosen), None if value is None else round(value, 6)]
                    for cell, value in tried
                ],
            }
        )
    return choices


def applied(cells: Sequence[Cell], stage: Stage, choices: Sequence[dict[str, Any]]) -> list[Cell]:
    """The cells with the values that were chosen for them; cells without a choice are left out."""
    chosen = {tuple(choice["at"]): choice["chosen"] for choice in choices}
    return [
        Cell(cell.stage, cell.name, cell.coordinates | chosen[cell.at(stage.by)])
        for cell in cells
        if cell.at(stage.by) in chosen
    ]


def write(path: pathlib.Path, stage: Stage, choices: Sequence[dict[str, Any]]) -> None:
    """Writes the choices. Those of groups of other parts of the study stay in the file."""
    head = {"metric": METRIC, "by": list(stage.by), "chosen": list(stage.chosen)}
    try:
        earlier = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        earlier = {}
    kept = []
    if {key: earlier.get(key) for key in head} == head:
        groups = [choice["at"] for choice in choices]
        kept = [choice for choice in earlier["choices"] if choice["at"] not in groups]
    outcome.write(path, head | {"choices": [*kept, *choices]})


def _at_edge(axis: str, best: Cell, cells: Sequence[Cell]) -> bool:
    values = sorted({cell.coordinates[axis] for cell in cells})
    return len(values) > 1 and best.coordinates[axis] in (values[0], values[-1])
