"""The symmetric softmax loss on scores of clips and captions."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.term import ScoredTerm, top1_accuracy, valid_clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm):
    """``contrastive.info_nce`` on ``similarity.clip_similarity``. On coarse embeddings: CLIP."""

    def __call__(self, parameters, x, y, *, phrase_ids=None, step):
        s = self.score(parameters, x, y)
        valid = valid_clips(x, y)
        loss = contrastive.info_nce(s, self.current("temperature", parameters), valid)
        return loss, {"top1": top1_accuracy(s, valid), **self.temperatures(parameters)}
