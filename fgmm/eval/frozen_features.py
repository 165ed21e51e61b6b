"""Features of frozen encoders: their output before any head, pooled over valid cells."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from fgmm.eval import corpus_embeddings
from fgmm.eval.recordings import Averages, Recordings
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState

POOLS = ("mean", "max", "mean_max")

# Maps the features of R recordings, and whether each could be read, to numbers by name.
Score = Callable[[Float[np.ndarray, "R F"], Bool[np.ndarray, "R"]], dict[str, float]]


class FrozenFeatures:
    """Features of recordings from the trained network and from the network before its first step.

    Args:
      experiment: of the checkpoint.
      parts: the corpora.
      pool: one of ``POOLS``; ``mean_max`` concatenates both.
      batch_size: records encoded at a time.
      untrained: whether to score the untrained network too; it is computed only once.
    """

    def __init__(
        self,
        experiment: Experiment,
        parts: list[Recordings],
        pool: str,
        batch_size: int,
        untrained: bool,
    ):
        self._experiment, self._parts = experiment, parts
        self._pool, self._batch_size = pool, batch_size
        self._of_untrained: dict[str, float] | None = None if untrained else {}

    def scored(
        self, state: TrainState, score: Score
    ) -> tuple[Sequence[Averages], dict[str, float], dict[str, float]]:
        """The scores of both networks.

        Args:
          state: of the trained network.
          score: of the features of all corpora in a row. It is called for the trained network last.

        Returns:
          The features of each corpus, averaged over the windows of each recording; the scores of
          the trained network; and as ``untrained/NAME`` those of the untrained one.
        """
        networks = [corpus_embeddings.trained(self._experiment, state, local=False)]
        if self._of_untrained is None:
            networks.append(corpus_embeddings.untrained(self._experiment))
        of_parts = []
        for part in self._parts:
            embedded = corpus_embeddings.of_corpus(
                *(self._experiment, state, part.assembler, *networks), batch_size=self._batch_size
            )
            of_parts.append([part.averages(one, one.features(self._pool)) for one in embedded])
        trained, *others = zip(*of_parts, strict=True)
        valid = np.concatenate([part.valid for part in trained])
        for untrained in others:
            scores = score(_joined(untrained), valid)
            self._of_untrained = {f"untrained/{name}": value for name, value in scores.items()}
        return trained, score(_joined(trained), valid), self._of_untrained


def _joined(parts: Sequence[Averages]) -> Float[np.ndarray, "R F"]:
    return np.concatenate([part.values for part in parts])
