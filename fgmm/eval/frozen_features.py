"""Features of frozen encoders: their output before any head, pooled over valid cells."""

import numpy as np
from jaxtyping import Float

from fgmm.eval import corpus_embeddings
from fgmm.eval.recordings import Averages, Recordings
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState

POOLS = ("mean", "max", "mean_max")


class FrozenFeatures:
    """Features of recordings from the trained network and from the network before its first step.

    Args:
      experiment: of the checkpoint.
      parts: the corpora.
      pool: one of ``POOLS``; ``mean_max`` concatenates both.
      batch_size: records encoded at a time.
    """

    def __init__(self, experiment: Experiment, parts: list[Recordings], pool: str, batch_size: int):
        self._experiment, self._parts = experiment, parts
        self._pool, self._batch_size = pool, batch_size

    def __call__(self, state: TrainState, *, untrained: bool) -> dict[str, list[Averages]]:
        """The features of each corpus, averaged over the windows of each recording.

        Args:
          state: of the trained network.
          untrained: whether to compute the untrained network too.

        Returns:
          One ``Averages`` for each corpus, under ``trained`` and, on request, ``untrained``.
        """
        networks = {"trained": corpus_embeddings.trained(self._experiment, state, local=False)}
        if untrained:
            networks["untrained"] = corpus_embeddings.untrained(self._experiment)
        found: dict[str, list[Averages]] = {name: [] for name in networks}
        for part in self._parts:
            embedded = corpus_embeddings.of_corpus(
                *(self._experiment, state, part.assembler, *networks.values()),
                batch_size=self._batch_size,
            )
            for name, of_network in zip(networks, embedded, strict=True):
                found[name].append(part.averages(of_network, of_network.features(self._pool)))
        return found


def joined(parts: list[Averages]) -> Float[np.ndarray, "R F"]:
    """The features of the recordings of all corpora, in their order."""
    return np.concatenate([part.values for part in parts])
