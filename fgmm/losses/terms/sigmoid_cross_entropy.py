"""The sigmoid cross entropy of a classifier: a clip has any number of classes."""

import dataclasses
from typing import ClassVar

from fgmm.losses import supervised
from fgmm.losses.label_term import LabelTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(LabelTerm):
    """``supervised.sigmoid_cross_entropy``."""

    several: ClassVar[bool] = True

    def loss(self, logits, labels, mask, axis_name):
        return supervised.sigmoid_cross_entropy(logits, labels, mask, axis_name=axis_name)
