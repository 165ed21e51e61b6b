"""The base class of terms that compare a classifier's logits with labels; see ``terms``."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Bool, Float, Int

from fgmm.losses.collectives import AxisName, mean_of_valid
from fgmm.losses.supervised import label_found
from fgmm.losses.term import Metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTerm:
    """A loss of logits against labels, with its options. It learns no parameters.

    Attributes:
      supervised: tells the config that an entry of such a term names a classifier, not a pair.
      several: whether a clip may have several classes; labels are then [b,classes].
    """

    supervised: ClassVar[bool] = True
    several: ClassVar[bool] = False

    # Terms on a pair may need these; label terms never do.
    needs_coarse: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    gated_sides: ClassVar[tuple[str, ...]] = ()

    def init(self) -> dict[str, Float[Array, ""]]:
        """An empty dict: there are no learned parameters."""
        return {}

    def with_implementation(self, name: str | None) -> "LabelTerm":
        """The same term, since it has only one implementation."""
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
          logits: of the device's own clips.
          labels: the class of each clip, or with ``several`` a mask of its classes.
          mask: which clips have a label and the modality that the classifier sees.
          axis_name: the mapped axis of devices, as in ``contrastive``.
        """
        found = label_found(logits, labels).astype(logits.dtype)
        top1 = mean_of_valid(found, mask, axis_name)
        return self.loss(logits, labels, mask, axis_name), {"top1": top1}
