"""Contrast of bags: all phrases of a clip, of which only some describe it."""

import dataclasses

from fgmm.losses import contrastive
from fgmm.losses.term import PhraseWeights, PooledTerm, top1_accuracy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(PooledTerm):
    """``contrastive.mil_nce`` on ``similarity.pooled_similarity``.

    The bag holds all phrases of a clip, or on coarse embeddings its captions. The gradient of a
    positive is weighted by softmax_p(s/τ), so that the best of a bag has the most weight.

    Attributes:
      count_positives_twice: as in ``contrastive.mil_nce``.
    """

    count_positives_twice: bool = True

    def __call__(
        self, parameters, x, y, *, phrase_ids=None, step, axis_name=None, exchange="gather"
    ):
        s = self.pooled_similarity(parameters, x, y, axis_name=axis_name, exchange=exchange)
        loss = contrastive.mil_nce(
            s,
            temperature=self.current("temperature", parameters),
            count_positives_twice=self.count_positives_twice,
            axis_name=axis_name,
        )
        scores = self.clip_scores(parameters, s, axis_name=axis_name)
        return loss, {"top1": top1_accuracy(scores, axis_name), **self.temperatures(parameters)}

    def _pool_of_phrases(self, parameters):
        # The log-sum-exp of a bag, as in the loss, but independent of the bag's size.
        return {"pool": "logsumexp", "temperature": self.current("temperature", parameters)}

    def phrase_weights(self, parameters, scores, *, step, gate=None):
        """The share of each phrase in its bag, which is the weight of its gradient."""
        temperature = float(self.current("temperature", parameters))
        weights, _ = PhraseWeights.softmax(scores, temperature)
        return PhraseWeights(weights, f"shares of the bag, at temperature {temperature:.3g}")
