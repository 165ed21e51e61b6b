"""The symmetric softmax loss on scores of clips and captions."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.scored_term import ScoredTerm
from fgmm.losses.term import top1_accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(ScoredTerm):
    """``contrastive.info_nce`` on ``similarity.clip_similarity``. On coarse embeddings: CLIP."""

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
        temperature = self.current("temperature", parameters)
        loss = contrastive.info_nce(s, temperature=temperature, axis_name=axis_name)
        return loss, {"top1": top1_accuracy(s, axis_name), **self.temperatures(parameters)}
