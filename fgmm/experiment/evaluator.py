"""Evaluations as the training loop knows them."""

import dataclasses
from collections.abc import Callable, Mapping

from fgmm.experiment.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """An evaluation inside training.

    Attributes:
      every: steps between evaluations; 0 for none but at the end.
      run: a function of the state, which is whole on every device of the mesh, to named numbers.
        All processes run it; see ``fgmm.eval.passes``.
      table: what ``run`` returns as a table for a person; None prints nothing.
    """

    every: int
    run: Callable[[TrainState], Mapping[str, float]]
    table: Callable[[Mapping[str, float]], str] | None = None

    def due(self, step: int, total: int) -> bool:
        """Whether it runs after ``step`` finished steps of ``total``."""
        return step == total or bool(self.every and step % self.every == 0)
