"""The symmetric softmax loss on scores of clips and captions."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.noise_rate import NoisyTerm
from fgmm.losses.scored_term import ScoredTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm, NoisyTerm):
    """``contrastive.info_nce`` on ``similarity.clip_similarity``. On coarse embeddings: CLIP."""

    def contrast(self, parameters, scores, axis_name):
        temperature = self.current("temperature", parameters)
        noise = self.noise(parameters)
        loss = contrastive.info_nce(scores, temperature=temperature, **noise, axis_name=axis_name)
        return loss, noise
