"""The learned share of captions or phrases that belong to another clip."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.losses.temperature import clipped
from fgmm.losses.term import Parameters, PooledTerm

_PARAMETER = "wrong_share_logit"
# At 0 and 1 the loss has no finite gradient.
_LEAST, _MOST = 0.001, 0.999


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoubtingTerm(PooledTerm):
    """A term whose positives may be wrong; see ``wrong_share`` of its loss in ``contrastive``.

    Attributes:
      wrong_share: the share of wrong positives at the start of training; it is learned, within
        0.001 and 0.999. 0 if no positive is wrong, and then nothing is learned.
    """

    wrong_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.wrong_share != 0 and not _LEAST <= self.wrong_share <= _MOST:
            raise ValueError(
                f"wrong_share must be 0, or from {_LEAST} to {_MOST}; got {self.wrong_share}"
            )

    def init(self):
        learned = super().init()
        if self.wrong_share > 0:
            learned[_PARAMETER] = jnp.float32(_logit(self.wrong_share))
        return learned

    def doubt(self, parameters: Parameters) -> dict[str, Float[Array, ""]]:
        """The argument ``wrong_share`` of a loss; empty if no positive is wrong."""
        if self.wrong_share == 0:
            return {}
        logit = clipped(parameters[_PARAMETER], _logit(_LEAST), _logit(_MOST))
        return {"wrong_share": jax.nn.sigmoid(logit)}


def _logit(share):
    return math.log(share / (1 - share))
