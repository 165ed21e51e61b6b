"""Estimates how long cells will take, from cells that are done."""

from collections.abc import Iterable

from fgmm.study.grid import Cell
from fgmm.study.outcome import Result

# The axes on which the time for a clip depends most.
_AXES = ("pairs", "batch", "width")


class Estimate:
    """Estimates from the mean seconds for a clip, by ``pairs``, ``batch`` and ``width``.

    The seconds include the start and the evaluations of a cell.

    Args:
      results: of cells that are done.
    """

    def __init__(self, results: Iterable[Result] = ()):
        self._spent: dict[tuple, list[float]] = {}
        for result in results:
            self.add(result)

    def add(self, result: Result) -> None:
        """Adds the result of a cell."""
        for key in (self._key(result["coordinates"]), ()):
            spent = self._spent.setdefault(key, [0.0, 0.0])
            spent[0] += result["wall_seconds"]
            spent[1] += result["coordinates"]["examples"]

    def seconds(self, cells: Iterable[Cell], jobs: int) -> float | None:
        """Seconds for all cells, ``jobs`` at a time; None without any result.

        If no cell with the same values on these axes is done, the mean over all results counts.
        """
        if () not in self._spent:
            return None
        total = 0.0
        for cell in cells:
            seconds, clips = self._spent.get(self._key(cell.coordinates), self._spent[()])
            total += cell.examples * seconds / clips
        return total / jobs

    @staticmethod
    def _key(coordinates: dict) -> tuple:
        return tuple(coordinates.get(axis) for axis in _AXES)
