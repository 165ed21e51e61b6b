"""The learned share of captions or phrases that belong to another clip."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.losses.term import Parameters, PooledTerm

_PARAMETER = "wrong_share_logit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoubtingTerm(PooledTerm):
    """A term whose positives may be wrong; see ``wrong_share`` of its loss in ``contrastive``.

    Attributes:
      wrong_share: the share of wrong positives at the start of training; it is learned. 0 if no
        positive is wrong, and then nothing is learned.
    """

    wrong_share: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.wrong_share < 1:
            raise ValueError(
                f"wrong_share must be at least 0 and less than 1; got {self.wrong_share}"
            )

    def init(self):
        learned = super().init()
        if self.wrong_share > 0:
            odds = self.wrong_share / (1 - self.wrong_share)
            learned[_PARAMETER] = jnp.float32(math.log(odds))
        return learned

    def doubt(self, parameters: Parameters) -> dict[str, Float[Array, ""]]:
        """The argument ``wrong_share`` of a loss; empty if no positive is wrong."""
        if self.wrong_share == 0:
            return {}
        return {"wrong_share": jax.nn.sigmoid(parameters[_PARAMETER])}
