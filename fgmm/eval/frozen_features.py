"""What a frozen encoder gives for a clip: its output before any head, pooled over valid cells."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.eval.recordings import Batch
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.models.embeddings import Tokens
from fgmm.models.heads import pooled

POOLS = {"mean": ("mean",), "max": ("max",), "mean_max": ("mean", "max")}


class FrozenFeatures:
    """Features of the trained network and of the one before its first step.

    The batch normalisation of the untrained network has its initial statistics, so that it does
    nothing. With statistics estimated from the clips, untrained features did worse on sounds, so
    this baseline is the harder one to beat.

    Args:
      experiment: of the checkpoint.
      modality: whose encoder.
      pool: one of ``POOLS``; more than one way, concatenated.
    """

    def __init__(self, experiment: Experiment, modality: str, pool: str):
        self._experiment, self._modality = experiment, modality
        ways = POOLS[pool]

        @jax.jit
        def pool_cells(tokens: Tokens) -> Float[Array, "B F"]:
            of_ways = [pooled(tokens.local, tokens.mask, way) for way in ways]
            return jnp.concatenate(of_ways, axis=-1)

        self._pool = pool_cells
        # The seed is an argument, because XLA would take long to fold what follows from a constant.
        # The program also encodes, so that XLA drops the parts of the state that are not needed for
        # it.
        self._encode_untrained = jax.jit(
            lambda seed, batch: experiment.encode(experiment.init(seed), batch)
        )

    def trained(self, state: TrainState, batch: Batch) -> Float[Array, "B F"]:
        """Of a state."""
        return self._pool(self._experiment.encode(state, batch)[self._modality])

    def untrained(self, batch: Batch) -> Float[Array, "B F"]:
        """Of the initial state of the run's seed."""
        encoded = self._encode_untrained(self._experiment.config.seed, batch)
        return self._pool(encoded[self._modality])
