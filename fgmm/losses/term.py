"""What the terms of an objective have in common. The terms are in ``terms``, one a file.

A term is a loss with its options and its learned parameters. A module of ``terms`` defines a frozen
dataclass ``Term``, derived from one of the classes here, whose fields are its options::

    term = fgmm.losses.terms.info_nce.Term(pool="softmax", attention_temperature=0.05)
    parameters = term.init()
    loss, metrics = term(parameters, x, y, phrase_ids=None, step=0)

Options are checked when a term is made; a ValueError names the option, its value and what is
allowed.

A term that is called with ``axis_name`` within a ``shard_map`` gets a device's own clips on both
sides, b of B, and returns the loss and the metrics of all B: see ``contrastive`` and ``sharded``.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from fgmm.losses import similarity
from fgmm.losses.collectives import AxisName, brought_home, first_clip, gathered, summed
from fgmm.losses.options import check_choice, check_positive
from fgmm.losses.temperature import CLIP_INITIAL_TEMPERATURE, CLIP_MAXIMUM_SCALE, clipped

Parameters = Mapping[str, Float[Array, ""]]
Metrics = dict[str, Float[Array, ""]]


class Side(NamedTuple):
    """One side of a pair: x, the clips, or y, the captions folded into one axis of phrases.

    Attributes:
      local: embeddings.
      mask: which of them are valid.
      caption: which caption of its clip each belongs to; None where there is only one.
      gate: logits of their learned weights; None where there are none.
    """

    local: Float[Array, "B N D"]
    mask: Bool[Array, "B N"]
    caption: Int[Array, "B N"] | None = None
    gate: Float[Array, "B N"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A loss with its options and learned parameters.

    Attributes:
      temperature: of the contrast; the initial one if it is learned.
      learn_temperature: whether it is learned, as its logarithm.
      min_temperature, max_temperature: bounds of every learned temperature of the term.
      levels: the levels of embeddings, 'fine' and 'coarse', at which the loss makes sense.
    """

    temperature: float = CLIP_INITIAL_TEMPERATURE
    learn_temperature: bool = True
    min_temperature: float = 1 / CLIP_MAXIMUM_SCALE
    max_temperature: float = 1.0

    levels: ClassVar[tuple[str, ...]] = ("fine", "coarse")

    def __post_init__(self):
        check_positive(
            temperature=self.temperature,
            min_temperature=self.min_temperature,
            max_temperature=self.max_temperature,
        )
        for option, learned in self._temperatures().items():
            value = getattr(self, option)
            if learned and not self.min_temperature <= value <= self.max_temperature:
                raise ValueError(
                    f"{option} is learned and must be within min_temperature "
                    f"{self.min_temperature} and max_temperature {self.max_temperature}; "
                    f"got {value}"
                )

    def init(self) -> dict[str, Float[Array, ""]]:
        """The learned parameters at the start of training."""
        return {
            f"log_{option}": jnp.float32(math.log(getattr(self, option)))
            for option, learned in self._temperatures().items()
            if learned
        }

    def __call__(
        self,
        parameters: Parameters,
        x: Side,
        y: Side,
        *,
        phrase_ids: Int[Array, "b P"] | None = None,
        step: ScalarLike,
        axis_name: AxisName = None,
        exchange: str = "gather",
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of a batch, in which clip i of x belongs to clip i of y, and its metrics.

        Args:
          parameters: as from ``init``.
          x, y: the two sides. A clip is valid if it has something valid on both.
          phrase_ids: equal for phrases of y that are the same; None where that is not known.
          step: of training, from 0.
          axis_name, exchange: as in ``similarity.pooled_similarity``.
        """
        raise NotImplementedError

    def score(
        self,
        parameters: Parameters,
        x: Side,
        y: Side,
        *,
        axis_name: AxisName = None,
        exchange: str = "gather",
    ) -> Float[Array, "b C"]:
        """How well each clip fits each caption, for ranking them, as the loss sees it.

        It depends on clip b and caption c alone, so that a gallery may be scored in parts.
        ``axis_name`` and ``exchange`` are as in ``similarity.pooled_similarity``.
        """
        raise NotImplementedError

    @property
    def gated_sides(self) -> tuple[str, ...]:
        """Which of the sides 'x' and 'y' must have gates, for weights that are learned."""
        return ()

    def current(self, option: str, parameters: Parameters) -> ScalarLike:
        """A temperature by the name of its option: its learned value, or else the option."""
        if not self._temperatures()[option]:
            return getattr(self, option)
        low, high = math.log(self.min_temperature), math.log(self.max_temperature)
        return jnp.exp(clipped(parameters[f"log_{option}"], low, high))

    def temperatures(self, parameters: Parameters) -> Metrics:
        """The temperatures in use, as metrics."""
        return {name: jnp.asarray(self.current(name, parameters)) for name in self._temperatures()}

    def _temperatures(self) -> dict[str, bool]:
        """The temperatures in use, and whether they are learned."""
        return {"temperature": self.learn_temperature}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PooledTerm(Term):
    """A term on similarities pooled over local embeddings; see ``similarity.pooled_similarity``.

    Attributes:
      pool: how similarities are pooled.
      attention_temperature: of the pools 'softmax' and 'logsumexp', which alone have one; the
        initial one if it is learned.
      learn_attention_temperature: whether it is learned, as its logarithm.
      implementation: what computes similarities; None for a choice by size.
    """

    pool: str = "softmax"
    attention_temperature: float = 0.1
    learn_attention_temperature: bool = False
    implementation: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check_choice("pool", self.pool, similarity.POOLS)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, tuple(similarity.IMPLEMENTATIONS))
        check_positive(attention_temperature=self.attention_temperature)
        if self.learn_attention_temperature:
            option = "pool, with learn_attention_temperature,"
            check_choice(option, self.pool, similarity.POOLS_WITH_TEMPERATURE)

    def pooled_similarity(
        self,
        parameters: Parameters,
        x: Side,
        y: Side,
        *,
        axis_name: AxisName = None,
        exchange: str = "gather",
    ) -> Float[Array, "b C P"]:
        return similarity.pooled_similarity(
            *(x.local, y.local, x.mask, y.mask),
            **self._pooling(parameters),
            axis_name=axis_name,
            exchange=exchange,
        )

    def score(self, parameters, x, y, *, axis_name=None, exchange="gather"):
        across = {"axis_name": axis_name, "exchange": exchange}
        s = self.pooled_similarity(parameters, x, y, **across)
        return self.clip_scores(parameters, s, gathered(y.mask, axis_name))

    def clip_scores(
        self, parameters: Parameters, s: Float[Array, "b C P"], mask: Bool[Array, "C P"]
    ) -> Float[Array, "b C"]:
        """One score for each clip and caption from those of its phrases: their mean."""
        return similarity.pooled(s, jnp.broadcast_to(mask, s.shape), pool="mean", axis=2)

    def _pooling(self, parameters):
        options = {"pool": self.pool, "implementation": self.implementation}
        if self.pool in similarity.POOLS_WITH_TEMPERATURE:
            options["temperature"] = self.current("attention_temperature", parameters)
        return options

    def _temperatures(self):
        temperatures = super()._temperatures()
        if self.pool in similarity.POOLS_WITH_TEMPERATURE:
            temperatures["attention_temperature"] = self.learn_attention_temperature
        return temperatures


WEIGHTS = (*similarity.PHRASE_WEIGHTS, "learned")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredTerm(PooledTerm):
    """A term on one score for each clip and caption; see ``similarity.clip_similarity``.

    Attributes:
      direction: who attends over whom: 'y_to_x', 'x_to_y' or 'symmetric'.
      phrase_weights: 'uniform', 'softmax', or 'learned' for those of a gate in the heads.
      local_weights: of local embeddings, where each of them attends over phrases (all directions
        but 'y_to_x'); empty for the kind that phrases have.
      phrase_temperature: of the softmax weights, on either side.
    """

    direction: str = "y_to_x"
    phrase_weights: str = "uniform"
    local_weights: str = ""
    phrase_temperature: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_choice("direction", self.direction, similarity.DIRECTIONS)
        check_choice("phrase_weights", self.phrase_weights, WEIGHTS)
        check_positive(phrase_temperature=self.phrase_temperature)
        if self.local_weights:
            self._check_local_weights()

    def _check_local_weights(self):
        check_choice("local_weights", self.local_weights, WEIGHTS)
        if self.direction == "y_to_x":
            raise ValueError(
                f"local_weights {self.local_weights!r} needs direction 'x_to_y' or 'symmetric', in "
                "which local embeddings are weighed; got 'y_to_x'"
            )
        if self.direction == "x_to_y" and self.phrase_weights != "uniform":
            raise ValueError(
                f"phrase_weights {self.phrase_weights!r} beside local_weights needs direction "
                "'symmetric'; got 'x_to_y', in which only local embeddings are weighed"
            )
        kinds = {self.phrase_weights, self.local_weights}
        if self.direction == "symmetric" and kinds == {"uniform", "softmax"}:
            raise ValueError(
                "sides without a gate have weights of one kind; got phrase_weights "
                f"{self.phrase_weights!r} and local_weights {self.local_weights!r}"
            )

    @property
    def gated_sides(self):
        return tuple(side for side, kind in self._weights().items() if kind == "learned")

    def score(self, parameters, x, y, *, axis_name=None, exchange="gather"):
        kinds = self._weights()
        gates = {f"{side}_gate": _gate(side, {"x": x, "y": y}[side]) for side in self.gated_sides}
        return similarity.clip_similarity(
            *(x.local, y.local, x.mask, y.mask),
            direction=self.direction,
            phrase_weights="softmax" if "softmax" in kinds.values() else "uniform",
            phrase_temperature=self.phrase_temperature,
            **gates,
            **self._pooling(parameters),
            axis_name=axis_name,
            exchange=exchange,
        )

    def _weights(self):
        """The kind of weights of each side that has some."""
        of_sides = {"x": self.local_weights or self.phrase_weights, "y": self.phrase_weights}
        unweighed = {"y_to_x": "x", "x_to_y": "y", "symmetric": ""}[self.direction]
        return {side: kind for side, kind in of_sides.items() if side != unweighed}


def _gate(name: str, side: Side) -> Float[Array, "B N"]:
    if side.gate is None:
        raise ValueError(f"weights 'learned' need a gate; side {name} has none")
    return side.gate


def valid_clips(x: Side, y: Side) -> Bool[Array, "B"]:
    """The clips that have something valid on both sides."""
    return x.mask.any(1) & y.mask.any(1)


def top1_accuracy(
    s: Float[Array, "b C"], valid: Bool[Array, "b"], axis_name: AxisName = None
) -> Float[Array, ""]:
    """How often the own caption has the highest score for a clip, and the own clip for a caption.

    The mean of both, over valid clips of all devices; a tie counts as an error.
    """
    own = (first_clip(len(s), axis_name) + jnp.arange(len(s)))[:, None] == jnp.arange(s.shape[1])
    positive = jnp.sum(jnp.where(own, s, 0), axis=1)
    rivals = valid[:, None] & gathered(valid, axis_name) & ~own
    rival_scores = jnp.where(rivals, s, -jnp.inf)
    best_caption = rival_scores.max(1)
    best_clip = brought_home(rival_scores.max(0), axis_name).max(0)
    found = (valid & (positive > best_caption)).sum() + (valid & (positive > best_clip)).sum()
    return summed(found, axis_name) / (2 * jnp.maximum(summed(valid.sum(), axis_name), 1))
