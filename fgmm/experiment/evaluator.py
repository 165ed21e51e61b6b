"""Evaluations inside training, as the training loop sees them."""

import dataclasses
from collections.abc import Callable, Mapping

from fgmm.experiment.state import TrainState


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """An evaluation inside training.

    Attributes:
      every: steps between evaluations; 0 for one at the end only.
      run: a function from the state to named numbers. The state is whole on every device of the
        mesh. All processes run it; see ``fgmm.eval.passes``.
      table: formats the numbers of ``run`` as a table to print; None prints nothing.
    """

    every: int
    run: Callable[[TrainState], Mapping[str, float]]
    table: Callable[[Mapping[str, float]], str] | None = None

    def due(self, step: int, total: int) -> bool:
        """Whether it runs after ``step`` finished steps of ``total``."""
        return step == total or bool(self.every and step % self.every == 0)
