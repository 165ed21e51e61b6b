"""The train state: everything that one step passes to the next."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from fgmm.config import ConfigError

# The parameters of a state that an evaluation may use.
WEIGHTS = ("ema", "last")


@flax.struct.dataclass
class TrainState:
    """A pytree of arrays.

    Attributes:
      step: number of finished steps, int32 [].
      nonfinite: how many of the last steps in a row skipped their update because loss or gradient
        was not finite, int32 [].
      params: ``{"model": ..., "objective": ...}``.
      statistics: the model's mutable collections, such as ``{"batch_stats": ...}``.
      opt_state: the optimizer's state.
      key: the run's random key, as uint32 data; step s uses ``fold_in(key, s)``.
      ema: the moving average of ``params``; None if the config has ``optimizer.ema=0``.
    """

    step: Any
    nonfinite: Any
    params: Any
    statistics: Any
    opt_state: Any
    key: Any
    ema: Any = None

    @classmethod
    def create(
        cls, params: Any, statistics: Any, opt_state: Any, key: PRNGKeyArray, *, average: bool
    ):
        """A state before the first step.

        Args:
          params, statistics, opt_state: as in the attributes.
          key: the run's random key.
          average: whether the state has a moving average of the parameters.
        """
        zero = jnp.zeros((), jnp.int32)
        state = cls(zero, zero, params, statistics, opt_state, jax.random.key_data(key))
        return state.replace(ema=jax.tree.map(jnp.copy, params)) if average else state

    def started(self, params: Any, statistics: Any):
        """The same state with other parameters and statistics. The moving average, if there is one,
        starts from these parameters too.
        """
        # A copy, because a step donates the buffers of both.
        average = None if self.ema is None else jax.tree.map(jnp.copy, params)
        return self.replace(params=params, statistics=statistics, ema=average)

    def with_weights(self, weights: str = ""):
        """The same state with the chosen parameters as ``params`` and without ``ema``.

        Args:
          weights: ``"ema"``, the moving average; ``"last"``, those of the last step; empty for the
            average if there is one, otherwise the last.

        Raises:
          ConfigError: ``weights`` is another word, or ``"ema"`` and there is no average.
        """
        check_weights(weights, self.ema is not None)
        params = self.params if weights == "last" or self.ema is None else self.ema
        return self.replace(params=params, ema=None)

    def step_key(self) -> PRNGKeyArray:
        """The random key of the next step."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.key), self.step)


def check_weights(weights: str, has_average: bool) -> None:
    """Checks the choice of parameters, as in ``TrainState.with_weights``.

    Raises:
      ConfigError: ``weights`` is neither empty nor one of ``WEIGHTS``, or ``"ema"`` and there is no
        average.
    """
    if weights not in ("", *WEIGHTS):
        raise ConfigError(f"--weights={weights!r} is unknown; allowed: {', '.join(WEIGHTS)}")
    if weights == "ema" and not has_average:
        raise ConfigError(
            "--weights='ema': the run keeps no average, optimizer.ema is 0; --weights=last takes "
            "the parameters of its last step"
        )
