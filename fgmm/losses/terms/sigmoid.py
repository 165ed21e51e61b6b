"""The pairwise sigmoid loss on scores of clips and captions."""

import dataclasses

import jax.numpy as jnp

from fgmm.losses import contrastive
from fgmm.losses.scored_term import ScoredTerm
from fgmm.losses.temperature import SIGLIP_INITIAL_BIAS, SIGLIP_INITIAL_TEMPERATURE
from fgmm.losses.term import top1_accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm):
    """``contrastive.sigmoid`` on ``similarity.clip_similarity``. On coarse embeddings: SigLIP.

    Attributes:
      bias: added to every logit; the initial one if it is learned.
      learn_bias: whether it is learned.
    """

    temperature: float = SIGLIP_INITIAL_TEMPERATURE
    bias: float = SIGLIP_INITIAL_BIAS
    learn_bias: bool = True

    def init(self):
        bias = {"bias": jnp.float32(self.bias)} if self.learn_bias else {}
        return {**super().init(), **bias}

    def __call__(
        self,
        parameters,
        x,
        y,
        *,
        phrase_ids=None,
        step,
        key=None,
        axis_name=None,
        exchange="gather",
    ):
        s = self.compared(parameters, x, y, key=key, axis_name=axis_name, exchange=exchange)
        bias = parameters["bias"] if self.learn_bias else self.bias
        temperature = self.current("temperature", parameters)
        loss = contrastive.sigmoid(s, temperature=temperature, bias=bias, axis_name=axis_name)
        metrics = {"top1": top1_accuracy(s, axis_name), "bias": jnp.asarray(bias)}
        return loss, {**metrics, **self.temperatures(parameters)}
