"""Terms that compare a classifier's logits with labels; the terms are in ``terms``, one a file."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Bool, Float, Int

from fgmm.losses.collectives import AxisName
from fgmm.losses.supervised import label_found, mean_of_valid
from fgmm.losses.term import Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTerm:
    """A loss of logits against labels, with its options. It learns no parameters.

    Attributes:
      supervised: by which a config knows that an entry names a classifier, not a pair.
      several: whether a clip may have several classes: labels are then [b,classes].
    """

    supervised: ClassVar[bool] = True
    several: ClassVar[bool] = False

    # What the terms of a pair need, and these do not.
    needs_coarse: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    gated_sides: ClassVar[tuple[str, ...]] = ()

    def init(self) -> dict[str, Float[Array, ""]]:
        """Nothing: there are no learned parameters."""
        return {}

    def with_implementation(self, name: str | None) -> "LabelTerm":
        """The same term; it has one implementation."""
        return self

    def loss(
        self,
        logits: Float[Array, "b classes"],
        labels: Int[Array, "b"] | Bool[Array, "b classes"],
        mask: Bool[Array, "b"],
        axis_name: AxisName,
    ) -> Float[Array, ""]:
        """The mean over the valid clips of all devices; see ``fgmm.losses.supervised``."""
        raise NotImplementedError

    def __call__(
        self,
        logits: Float[Array, "b classes"],
        labels: Int[Array, "b"] | Bool[Array, "b classes"],
        mask: Bool[Array, "b"],
        *,
        axis_name: AxisName = None,
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of a batch, and ``top1``: the share of valid clips whose highest logit is right.

        Args:
          logits: of a device's own clips.
          labels: the class of each, or with ``several`` which classes it has.
          mask: which clips have labels and something to tell them from.
          axis_name: of the devices, as in ``contrastive``.
        """
        found = label_found(logits, labels).astype(logits.dtype)
        top1 = mean_of_valid(found, mask, axis_name)
        return self.loss(logits, labels, mask, axis_name), {"top1": top1}
