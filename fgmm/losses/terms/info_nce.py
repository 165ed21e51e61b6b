"""The symmetric softmax loss on scores of clips and captions."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.term import ScoredTerm, top1_accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm):
    """``contrastive.info_nce`` on ``similarity.clip_similarity``. On coarse embeddings: CLIP."""

    def __call__(
        self, parameters, x, y, *, phrase_ids=None, step, axis_name=None, exchange="gather"
    ):
        s = self.score(parameters, x, y, axis_name=axis_name, exchange=exchange)
        temperature = self.current("temperature", parameters)
        loss = contrastive.info_nce(s, temperature=temperature, axis_name=axis_name)
        return loss, {"top1": top1_accuracy(s, axis_name), **self.temperatures(parameters)}
