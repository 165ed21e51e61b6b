"""The pairwise sigmoid loss on scores of clips and captions."""

import dataclasses

import jax.numpy as jnp

from fgmm.losses import contrastive
from fgmm.losses.scored_term import ScoredTerm
from fgmm.losses.temperature import SIGLIP_INITIAL_BIAS, SIGLIP_INITIAL_TEMPERATURE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm):
    """``contrastive.sigmoid`` on ``similarity.clip_similarity``. On coarse embeddings: SigLIP.

    Attributes:
      bias: added to every logit; its initial value if it is learned.
      learn_bias: whether it is learned.
    """

    temperature: float = SIGLIP_INITIAL_TEMPERATURE
    bias: float = SIGLIP_INITIAL_BIAS
    learn_bias: bool = True

    def init(self):
        bias = {"bias": jnp.float32(self.bias)} if self.learn_bias else {}
        return {**super().init(), **bias}

    def contrast(self, parameters, scores, axis_name):
        bias = parameters["bias"] if self.learn_bias else self.bias
        temperature = self.current("temperature", parameters)
        loss = contrastive.sigmoid(scores, temperature=temperature, bias=bias, axis_name=axis_name)
        return loss, {"bias": jnp.asarray(bias)}
