"""Similarities together with their masks."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fgmm.losses.collectives import AxisName, devices, varying_alike


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Scores:
    """What ``similarity`` returns and ``contrastive`` takes.

    A similarity without valid entries is 0, which could be a true score. So the losses need the
    masks: a clip without valid local embeddings, a caption without valid phrases, and a masked
    phrase are neither positives nor negatives.

    Attributes:
      values: [b,C], or [b,C,P] by phrase; 0 without valid entries. With candidates, [b,K] or
        [b,K,P].
      x_valid: which of this device's clips have valid entries, [b]; None for all.
      y_valid: which of this device's captions have valid entries, [c], or its valid phrases, [c,P];
        None for all. With given candidates, which are not captions of the batch, [b,K] or [b,K,P].
      candidates: the captions that each clip is compared with, [b,K], numbered over all devices,
        none of them twice; C or more in an empty slot. None if a clip is compared with all.
      counts: how often a candidate counts as a negative, [b,K]: 1/π if it is drawn with probability
        π; None if each counts once.
    """

    values: Float[Array, "b C *P"]
    x_valid: Bool[Array, "b"] | None = None
    y_valid: Bool[Array, "c *P"] | Bool[Array, "b C *P"] | None = None
    candidates: Int[Array, "b K"] | None = None
    counts: Float[Array, "b K"] | None = None

    @classmethod
    def of(cls, s: "Scores | Float[Array, 'b C *P']") -> "Scores":
        """Scores as they are; an array as scores of which all are valid."""
        return s if isinstance(s, cls) else cls(s)

    @property
    def valid(self) -> Bool[Array, "b"] | None:
        """Which clips have valid entries and a caption with valid entries; None for all."""
        y_valid = self.y_valid
        if y_valid is not None and y_valid.ndim == 2:
            y_valid = y_valid.any(1)
        return both(self.x_valid, y_valid)

    def of_all_captions(
        self, axis_name: AxisName = None
    ) -> tuple[Float[Array, "b C *P"], Bool[Array, "b C"] | None, Float[Array, "b C"] | None]:
        """Values of all pairs, the mask of compared pairs, and how often each pair counts.

        The mask is None if all pairs were compared, and the counts are None if each counts once.
        Values of candidates are put in the columns of their captions; other columns hold 0.

        Raises:
          ValueError: the candidates are given ones, which are not captions of the batch.
        """
        if self.candidates is None:
            if self.y_valid is not None and self.y_valid.ndim == self.values.ndim:
                raise ValueError(
                    f"scores {self.values.shape} are of given candidates (y [b,K,P,D]), which are "
                    "not captions of the batch; the losses cannot contrast them. Write a loss on "
                    ".values"
                )
            return self.values, None, None
        b = len(self.values)
        clips, captions = jnp.arange(b)[:, None], b * devices(axis_name)

        def placed(v):
            blank = jnp.zeros((b, captions, *v.shape[2:]), v.dtype)
            blank, v, candidates = varying_alike((blank, v, self.candidates))
            return blank.at[clips, candidates].set(v, mode="drop", unique_indices=True)

        compared = placed(jnp.ones(self.candidates.shape, bool))
        return placed(self.values), compared, None if self.counts is None else placed(self.counts)

    def tree_flatten(self):
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self)), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        # Leaves are not always arrays: JAX's transformations use placeholders.
        scores = object.__new__(cls)
        for field, leaf in zip(dataclasses.fields(cls), leaves, strict=True):
            object.__setattr__(scores, field.name, leaf)
        return scores


def both(one: Bool[Array, "..."] | None, other: Bool[Array, "..."] | None):
    """The logical and of two masks; None is a mask that is True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other
