"""The symmetric softmax loss on scores of clips and captions."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.scored_term import ScoredTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm):
    """``contrastive.info_nce`` on ``similarity.clip_similarity``. On coarse embeddings: CLIP."""

    def contrast(self, parameters, scores, axis_name):
        temperature = self.current("temperature", parameters)
        return contrastive.info_nce(scores, temperature=temperature, axis_name=axis_name), {}
