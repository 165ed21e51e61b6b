"""Similarities together with what is known of their masks."""

import dataclasses

import jax
from jaxtyping import Array, Bool, Float


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Scores:
    """What ``similarity`` returns and ``contrastive`` takes.

    A similarity to nothing is 0, which is a score like any other. So the losses are told what is
    nothing: a clip without valid local embeddings, a caption without valid phrases, or a phrase
    that is masked is no positive and no negative of anyone.

    Attributes:
      values: [b,C], or [b,C,P] by phrase; 0 where there is nothing to compare.
      x_valid: which of this device's clips have something valid, [b]; None for all.
      y_valid: which of this device's captions do, [c], or its valid phrases, [c,P]; None for all.
    """

    values: Float[Array, "b C *P"]
    x_valid: Bool[Array, "b"] | None = None
    y_valid: Bool[Array, "c *P"] | None = None

    @property
    def valid(self) -> Bool[Array, "b"] | None:
        """Which clips have something valid, and so has caption i of clip i; None for all."""
        y_valid = self.y_valid
        if y_valid is not None and y_valid.ndim == 2:
            y_valid = y_valid.any(1)
        return both(self.x_valid, y_valid)

    def tree_flatten(self):
        return (self.values, self.x_valid, self.y_valid), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        # Leaves are not always arrays: within its transformations JAX has placeholders of its own.
        scores = object.__new__(cls)
        for field, leaf in zip(dataclasses.fields(cls), leaves, strict=True):
            object.__setattr__(scores, field.name, leaf)
        return scores


def both(one: Bool[Array, "..."] | None, other: Bool[Array, "..."] | None):
    """Where both masks hold, None being a mask of everything."""
    if one is None or other is None:
        return other if one is None else one
    return one & other
