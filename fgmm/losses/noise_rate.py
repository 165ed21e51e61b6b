"""The learned noise rate: the share of captions or phrases that belong to another clip."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.losses.temperature import clipped
from fgmm.losses.term import Parameters, PooledTerm

_PARAMETER = "noise_rate_logit"
# At 0 and 1 the loss has no finite gradient.
_LEAST, _MOST = 0.001, 0.999


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyTerm(PooledTerm):
    """A term on noisy pairs; see ``noise_rate`` in ``contrastive``.

    Attributes:
      noise_rate: the share of wrong pairs at the start of training; it is learned, within 0.001
        and 0.999. With 0 no pair is wrong, and nothing is learned.
    """

    noise_rate: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.noise_rate != 0 and not _LEAST <= self.noise_rate <= _MOST:
            raise ValueError(
                f"noise_rate must be 0, or from {_LEAST} to {_MOST}; got {self.noise_rate}"
            )

    def init(self):
        learned = super().init()
        if self.noise_rate > 0:
            learned[_PARAMETER] = jnp.float32(_logit(self.noise_rate))
        return learned

    def noise(self, parameters: Parameters) -> dict[str, Float[Array, ""]]:
        """The argument ``noise_rate`` of a loss; empty if no pair is wrong."""
        if self.noise_rate == 0:
            return {}
        logit = clipped(parameters[_PARAMETER], _logit(_LEAST), _logit(_MOST))
        return {"noise_rate": jax.nn.sigmoid(logit)}


def _logit(share):
    return math.log(share / (1 - share))
