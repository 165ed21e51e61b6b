"""The choice of rates and temperatures from the results of tuning.

A group is the cells that agree on the axes ``by``. For each group, the values on the axes
``chosen`` are those of its cell with the best mean of R@10 over both directions, by the score of
its arm. A cell that failed, for instance because of too high a rate, is never chosen.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fgmm.config import ConfigError
from fgmm.study import outcome
from fgmm.study.grid import Cell, Stage
from fgmm.study.outcome import Result

# The file of the choices, beside the results.
CHOICE = "choice.json"
METRIC = "mean of R@10 over both directions, by the score of the arm"
DIRECTIONS = ("text to clip", "clip to text")


def quality(result: Result) -> float:
    """The mean of R@10 over both directions, by the arm's score."""
    return sum(result["metrics"][result["judged"][way]] for way in DIRECTIONS) / len(DIRECTIONS)


def choose(
    stage: Stage, results: Mapping[str, Result], failed: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The choices for all groups in which every cell is done or has failed, and one is done.

    Args:
      stage: the stage "tune".
      results: of its cells that are done, by name.
      failed: names of its cells that have failed.

    Returns:
      For each group ``at``, its values on ``by``; ``chosen``, the chosen value by axis;
      ``quality`` of the chosen cell; ``at_edge``, the axes on which the chosen value is the least
      or the greatest of three or more numbers that were tried; and ``tried``, the values and the
      quality of each cell, with None for a cell that failed.
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
        # Of equal cells the first in the grid wins, whatever the order in which they ran.
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
    """The cells with their chosen values on the tuned axes; cells without a choice are left out."""
    chosen = {tuple(choice["at"]): choice["chosen"] for choice in choices}
    return [
        dataclasses.replace(cell, coordinates=cell.coordinates | chosen[cell.at(stage.by)])
        for cell in cells
        if cell.at(stage.by) in chosen
    ]


def write(path: pathlib.Path, stage: Stage, choices: Sequence[dict[str, Any]]) -> None:
    """Writes the choices to a file. Earlier choices for other groups stay in it.

    They stay only if they were made by the same metric and on the same axes.
    """
    groups = [choice["at"] for choice in choices]
    kept = [choice for choice in _earlier(path, stage) if choice["at"] not in groups]
    outcome.write(path, _head(stage) | {"choices": [*kept, *choices]})


def failed(path: pathlib.Path, stage: Stage) -> list[str]:
    """The names of the cells that had failed when the choices in a file were made.

    There are none if they were made by another metric or on other axes.
    """
    tried = [(choice["at"], one) for choice in _earlier(path, stage) for one in choice["tried"]]
    return [
        cell.name
        for cell in stage.cells
        if (list(cell.at(stage.by)), [*cell.at(stage.chosen), None]) in tried
    ]


def _head(stage: Stage) -> dict[str, Any]:
    return {"metric": METRIC, "by": list(stage.by), "chosen": list(stage.chosen)}


def _earlier(path: pathlib.Path, stage: Stage) -> list[dict[str, Any]]:
    """The choices in a file; none if they were made by another metric or on other axes."""
    try:
        earlier = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return []
    head = _head(stage)
    return earlier["choices"] if {key: earlier.get(key) for key in head} == head else []


def read(path: pathlib.Path) -> dict[str, Any] | None:
    """The choices in a file, with the axes ``by`` and ``chosen``; None if there are none.

    Raises:
      ConfigError: the file holds no choices.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        return found if found["by"] and found["chosen"] and found["choices"] else None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no choices of a study; remove it") from error


def _at_edge(axis: str, best: Cell, cells: Sequence[Cell]) -> bool:
    found = {cell.coordinates[axis] for cell in cells}
    if any(isinstance(value, str) for value in found):
        return False
    values = sorted(found)
    return len(values) > 2 and best.coordinates[axis] in (values[0], values[-1])
