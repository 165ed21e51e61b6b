"""How long cells will take, from those that have ended."""

from collections.abc import Iterable

from fgmm.study.grid import Cell
from fgmm.study.outcome import Result

# The axes on which the time of a clip depends most.
_AXES = ("pairs", "batch", "width")


class Estimate:
    """Seconds of a clip, evaluations and start included, by the axes on which they depend most.

    Args:
      results: of cells that have ended.
    """

    def __init__(self, results: Iterable[Result] = ()):
        self._spent: dict[tuple, list[float]] = {}
        for result in results:
            self.add(result)

    def add(self, result: Result) -> None:
        """Adds a result."""
        for key in (self._key(result["coordinates"]), ()):
            spent = self._spent.setdefault(key, [0.0, 0.0])
            spent[0] += result["wall_seconds"]
            spent[1] += result["coordinates"]["examples"]

    def seconds(self, cells: Iterable[Cell], jobs: int) -> float | None:
        """Seconds for all cells, ``jobs`` at a time; None if nothing has ended yet.

        If no similar cell has ended, a clip is taken to last as long as the mean of all.
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
