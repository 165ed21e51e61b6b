"""The train state: all that one step hands to the next."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray


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
    """

    step: Any
    nonfinite: Any
    params: Any
    statistics: Any
    opt_state: Any
    key: Any

    @classmethod
    def create(cls, params: Any, statistics: Any, opt_state: Any, key: PRNGKeyArray):
        """A state of zero steps."""
        zero = jnp.zeros((), jnp.int32)
        return cls(zero, zero, params, statistics, opt_state, jax.random.key_data(key))

    def step_key(self) -> PRNGKeyArray:
        """The random key of the step to come."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.key), self.step)
