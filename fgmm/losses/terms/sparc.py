"""Contrast of each phrase's part of its clip with the other phrases of the caption."""

import dataclasses
from typing import ClassVar

from fgmm.losses import contrastive, similarity
from fgmm.losses.term import Attention, PhraseWeights
from fgmm.losses.term import Term as BaseTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(BaseTerm):
    """``contrastive.sparc``. It has no negatives in other clips: put a coarse term beside it."""

    # A coarse clip is one vector, so phrases cannot attend to parts of it.
    levels: ClassVar[tuple[str, ...]] = ("fine",)

    def __call__(
        self, parameters, x, y, *, phrase_ids=None, step, axis_name=None, exchange="gather"
    ):
        temperature = self.current("temperature", parameters)
        loss = contrastive.sparc(
            *(x.local, y.local, x.mask, y.mask),
            temperature=temperature,
            caption=y.caption,
            axis_name=axis_name,
        )
        return loss, self.temperatures(parameters)

    def score(self, parameters, x, y, *, axis_name=None, exchange="gather"):
        return similarity.clip_similarity(
            *(x.local, y.local, x.mask, y.mask),
            pool="sparc",
            axis_name=axis_name,
            exchange=exchange,
        )

    def attention(self, parameters):
        return Attention("sparc")

    def phrase_weights(self, parameters, scores, *, step, gate=None):
        return PhraseWeights.uniform(scores)
