"""Similarities together with their masks."""

import dataclasses

import jax
from jaxtyping import Array, Bool, Float


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Scores:
    """What ``similarity`` returns and ``contrastive`` takes.

    A similarity without valid entries is 0, which is a score like any other. So the losses need the
    masks: a clip without valid local embeddings, a caption without valid phrases, and a masked
    phrase are no positives and no negatives.

    Attributes:
      values: [b,C], or [b,C,P] by phrase; 0 without valid entries.
      x_valid: which of this device's clips have valid entries, [b]; None for all.
      y_valid: which of this device's captions do, [c], or its valid phrases, [c,P]; None for all.
    """

    values: Float[Array, "b C *P"]
    x_valid: Bool[Array, "b"] | None = None
    y_valid: Bool[Array, "c *P"] | None = None

    @property
    def valid(self) -> Bool[Array, "b"] | None:
        """Which clips i and their captions i have valid entries; None for all."""
        y_valid = self.y_valid
        if y_valid is not None and y_valid.ndim == 2:
            y_valid = y_valid.any(1)
        return both(self.x_valid, y_valid)

    def tree_flatten(self):
        return (self.values, self.x_valid, self.y_valid), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        # Leaves are not always arrays: JAX's transformations use placeholders.
        scores = object.__new__(cls)
        for field, leaf in zip(dataclasses.fields(cls), leaves, strict=True):
            object.__setattr__(scores, field.name, leaf)
        return scores


def both(one: Bool[Array, "..."] | None, other: Bool[Array, "..."] | None):
    """The conjunction of two masks; None is a mask of everything."""
    if one is None or other is None:
        return other if one is None else one
    return one & other
