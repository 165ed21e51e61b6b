"""The symmetric softmax loss on scores of clips and captions."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.scored_term import ScoredTerm
from fgmm.losses.wrong_share import DoubtingTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm, DoubtingTerm):
    """``contrastive.info_nce`` on ``similarity.clip_similarity``. On coarse embeddings: CLIP."""

    def contrast(self, parameters, scores, axis_name):
        temperature = self.current("temperature", parameters)
        doubt = self.doubt(parameters)
        loss = contrastive.info_nce(scores, temperature=temperature, **doubt, axis_name=axis_name)
        return loss, doubt
