"""The train state: all that one step hands to the next."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from fgmm.config import ConfigError

# Parameters that an evaluation may use.
WEIGHTS = ("ema", "last")


@flax.struct.dataclass
class TrainState:
    """A pytree of arrays.

    Attributes:
      step: finished steps, int32 [].
      nonfinite: updates skipped in a row, up to the last step, int32 [].
      params: ``{"model": ..., "objective": ...}``.
      statistics: the model's mutable collections, such as ``{"batch_stats": ...}``.
      opt_state: of the optimizer.
      key: the run's random key, as uint32 data; step s uses ``fold_in(key, s)``.
      ema: the moving average of ``params``; None where the config asks for none.
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
        """A state of zero steps.

        Args:
          params, statistics, opt_state: as in the state.
          key: the run's random key.
          average: whether it has a moving average of the parameters.
        """
        zero = jnp.zeros((), jnp.int32)
        state = cls(zero, zero, params, statistics, opt_state, jax.random.key_data(key))
        return state.replace(ema=jax.tree.map(jnp.copy, params)) if average else state

    def started(self, params: Any, statistics: Any):
        """The same state with other parameters and statistics. The moving average, if there is one,
        starts from these parameters too.
        """
        # A copy, because a step consumes both.
        average = None if self.ema is None else jax.tree.map(jnp.copy, params)
        return self.replace(params=params, statistics=statistics, ema=average)

    def with_weights(self, weights: str = ""):
        """The same state with the chosen parameters alone.

        Args:
          weights: ``"ema"``, the moving average; ``"last"``, those of the last step; empty for the
            average where there is one.

        Raises:
          ConfigError: it is another word, or there is no average.
        """
        check_weights(weights, self.ema is not None)
        params = self.params if weights == "last" or self.ema is None else self.ema
        return self.replace(params=params, ema=None)

    def step_key(self) -> PRNGKeyArray:
        """The random key of the step to come."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.key), self.step)


def check_weights(weights: str, has_average: bool) -> None:
    """Checks which parameters are asked for.

    Raises:
      ConfigError: ``weights`` is neither empty nor one of ``WEIGHTS``, or there is no average.
    """
    if weights not in ("", *WEIGHTS):
        raise ConfigError(f"--weights={weights!r} is unknown; allowed: {', '.join(WEIGHTS)}")
    if weights == "ema" and not has_average:
        raise ConfigError(
            "--weights='ema': the run keeps no average, optimizer.ema is 0; --weights=last takes "
            "the parameters of its last step"
        )
