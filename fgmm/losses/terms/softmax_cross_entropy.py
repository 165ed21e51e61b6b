"""The softmax cross entropy of a classifier: a clip has one class."""

import dataclasses

from fgmm.losses import supervised
from fgmm.losses.label_term import LabelTerm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(LabelTerm):
    """``supervised.softmax_cross_entropy``.

    Attributes:
      label_smoothing: share of the target that is spread evenly over all classes.
    """

    label_smoothing: float = 0.0

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"label_smoothing must be at least 0 and less than 1; got {self.label_smoothing!r}"
            )

    def loss(self, logits, labels, mask, axis_name):
        return supervised.softmax_cross_entropy(
            logits, labels, mask, label_smoothing=self.label_smoothing, axis_name=axis_name
        )
