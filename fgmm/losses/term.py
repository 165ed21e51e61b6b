"""Base classes of the terms of an objective. The terms are in ``terms``, one per file.

A term is a loss with its options and its learned parameters. A module of ``terms`` defines a frozen
dataclass ``Term``, derived from one of the classes here, whose fields are its options::

    term = fgmm.losses.terms.info_nce.Term(pool="softmax", attention_temperature=0.05)
    parameters = term.init()
    loss, metrics = term(parameters, x, y, phrase_ids=None, step=0)

Options are checked when a term is created; a ValueError names the option, its value and what is
allowed.

With ``axis_name`` within a ``shard_map``, a term gets a device's own clips on both sides, b of B,
and returns the loss and the metrics of all B: see ``contrastive`` and ``sharded``.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from fgmm.losses import similarity
from fgmm.losses.collectives import AxisName, all_gather, all_to_all, matched_pairs, psum
from fgmm.losses.dense import POOLS, POOLS_WITH_TEMPERATURE, pool_weights, pooled
from fgmm.losses.kernels import hopper
from fgmm.losses.options import check_choice, check_positive
from fgmm.losses.scores import Scores
from fgmm.losses.temperature import CLIP_INITIAL_TEMPERATURE, CLIP_MAXIMUM_SCALE, clipped

Parameters = Mapping[str, Float[Array, ""]]
Metrics = dict[str, Float[Array, ""]]


class Side(NamedTuple):
    """One side of a pair: x, the clips, or y, the captions of a clip folded into one axis of
    phrases.

    Attributes:
      local: local or phrase embeddings.
      mask: which of them are valid.
      caption: the number of the caption that each phrase belongs to; None if there is only one.
      gate: logits of learned weights of ``local``; None if there are none.
      coarse: one embedding per clip; None if no term needs it.
    """

    local: Float[Array, "B N D"]
    mask: Bool[Array, "B N"]
    caption: Int[Array, "B N"] | None = None
    gate: Float[Array, "B N"] | None = None
    coarse: Float[Array, "B D"] | None = None

    @classmethod
    def of(cls, embeddings: Any) -> "Side":
        """The side of embeddings with the axes [B,N,D], such as ``objective.Embeddings``."""
        return cls(embeddings.local, embeddings.mask, gate=embeddings.gates)


@dataclasses.dataclass(frozen=True)
class Attention:
    """How phrases attend to their own clips: with the weights of a pool over local embeddings.

    ``str`` of it is a description. A term that attends in another way returns a subclass with its
    own ``__call__`` and ``__str__``.

    Attributes:
      pool: one of ``dense.POOLS``.
      temperature: temperature of the pool; None if it has none.
    """

    pool: str
    temperature: ScalarLike | None = None

    def __call__(self, x: Side, y: Side) -> tuple[Float[Array, "B N P"], Float[Array, "B P"]]:
        """The weights of each phrase of y over its own clip in x, and its similarity to that clip.

        The weights sum to 1 over N, or are all 0 where nothing is valid.
        """
        options = {"pool": self.pool, "temperature": self.temperature}

        def within_clip(*sides):
            sides = [side[None] for side in sides]
            weights = similarity.attention_weights(*sides, **options)
            return weights[0, 0], similarity.pooled_similarity(*sides, **options).values[0, 0]

        return jax.vmap(within_clip)(x.local, y.local, x.mask, y.mask)

    def __str__(self) -> str:
        if self.temperature is None:
            return f"pool {self.pool}"
        return f"pool {self.pool} at temperature {float(self.temperature):.3g}"


class PhraseWeights(NamedTuple):
    """The weight of each phrase of a clip in a term.

    Attributes:
      weights: the weights, with sum 1, or less if a null slot takes a share.
      description: how they are computed, in words.
    """

    weights: Float[Array, "P"]
    description: str

    @classmethod
    def uniform(cls, scores: Float[Array, "P"]) -> "PhraseWeights":
        """The same weight for each phrase."""
        return cls(jnp.full(scores.shape, 1 / len(scores), scores.dtype), "uniform")

    @classmethod
    def softmax(cls, scores: Float[Array, "P"], temperature: ScalarLike) -> "PhraseWeights":
        """Weights softmax(scores / temperature)."""
        everything = jnp.ones(scores.shape, bool)
        options = {"pool": "softmax", "temperature": temperature, "axis": 0}
        weights = pool_weights(scores, everything, **options)
        return cls(weights, f"softmax of the scores at temperature {float(temperature):.3g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A loss with its options and learned parameters.

    Attributes:
      temperature: temperature of the contrast; its initial value if it is learned.
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
          x, y: the two sides. A clip is valid if it has valid embeddings on both.
          phrase_ids: numbers that are equal for equal phrases of y; None if unknown.
          step: the training step, from 0.
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
    ) -> Scores:
        """The scores [b,C] by which the loss would rank clips and captions.

        A score depends only on clip b and caption c, so a gallery may be scored in parts.
        ``axis_name`` and ``exchange`` are as in ``similarity.pooled_similarity``.
        """
        raise NotImplementedError

    @property
    def gated_sides(self) -> tuple[str, ...]:
        """The sides, of 'x' and 'y', that must have gates because their weights are learned."""
        return ()

    @property
    def needs_coarse(self) -> bool:
        """Whether the term chooses negatives by the coarse embeddings of both sides."""
        return False

    @property
    def draws(self) -> bool:
        """Whether the term draws at random; it is then called with ``key``, the key of the step."""
        return False

    def check_batch(self, clips: int, exchange: str) -> None:
        """Raises a ValueError if the term does not support a batch size or an exchange.

        Args:
          clips: clips of a batch, over all devices.
          exchange: as in ``similarity.pooled_similarity``.
        """

    def check_embeddings(self, width: int, dtype: str) -> None:
        """Raises a ValueError if embeddings of this width D and dtype cannot be compared here.

        Nothing is compiled.
        """

    def with_implementation(self, name: str | None) -> "Term":
        """The same term with another implementation of its similarities, if it has several.

        Args:
          name: ``implementation`` as in ``similarity.pooled_similarity``.
        """
        return self

    def attention(self, parameters: Parameters) -> Attention | None:
        """How phrases attend to their clips at the fine level; None if the term defines none.

        Args:
          parameters: as from ``init``.
        """
        return None

    def phrase_weights(
        self,
        parameters: Parameters,
        scores: Float[Array, "P"],
        *,
        step: int,
        gate: Float[Array, "P"] | None = None,
    ) -> PhraseWeights | None:
        """The weights of the phrases of a clip at the fine level; None if the term defines none.

        They are only for display. In an evaluation, weights of the matched pair would reveal the
        answer.

        Args:
          parameters: as from ``init``.
          scores: the similarities of the clip's valid phrases to the clip, from ``attention``.
          step: the training step, for weights that are annealed.
          gate: logits of the phrases' learned weights; None where there are none.
        """
        return None

    def current(self, option: str, parameters: Parameters) -> ScalarLike:
        """A temperature by the name of its option: the learned value if it is learned, otherwise
        the option.
        """
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
      attention_temperature: of the pools 'softmax' and 'logsumexp'; other pools have none. Its
        initial value if it is learned.
      learn_attention_temperature: whether it is learned, as its logarithm.
      implementation: of similarities: 'dense', 'blockwise' or 'kernel'; None for dense or
        blockwise, by size.
    """

    pool: str = "softmax"
    attention_temperature: float = 0.1
    learn_attention_temperature: bool = False
    implementation: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check_choice("pool", self.pool, POOLS)
        if self.implementation is not None:
            check_choice("implementation", self.implementation, tuple(similarity.IMPLEMENTATIONS))
        check_positive(attention_temperature=self.attention_temperature)
        if self.learn_attention_temperature:
            option = "pool, with learn_attention_temperature,"
            check_choice(option, self.pool, POOLS_WITH_TEMPERATURE)

    def pooled_similarity(
        self,
        parameters: Parameters,
        x: Side,
        y: Side,
        *,
        axis_name: AxisName = None,
        exchange: str = "gather",
    ) -> Scores:
        """s[b,c,p] by the options of this term; see ``similarity.pooled_similarity``."""
        return similarity.pooled_similarity(
            *(x.local, y.local, x.mask, y.mask),
            **self._pooling(parameters),
            axis_name=axis_name,
            exchange=exchange,
        )

    def score(self, parameters, x, y, *, axis_name=None, exchange="gather"):
        across = {"axis_name": axis_name, "exchange": exchange}
        s = self.pooled_similarity(parameters, x, y, **across)
        return self.clip_scores(parameters, s, axis_name=axis_name)

    def clip_scores(
        self, parameters: Parameters, s: Scores, *, axis_name: AxisName = None
    ) -> Scores:
        """One score for each clip and caption, [b,C], from those of its phrases, [b,C,P]."""
        phrases = jnp.broadcast_to(all_gather(s.y_valid, axis_name), s.values.shape)
        values = pooled(s.values, phrases, **self._pool_of_phrases(parameters), axis=2)
        return Scores(values, s.x_valid, s.y_valid.any(1))

    def _pool_of_phrases(self, parameters):
        return {"pool": "mean"}

    def check_embeddings(self, width, dtype):
        if self.implementation != "kernel":
            return
        hopper.check_device()
        local, mask = jax.ShapeDtypeStruct((2, 2, width), dtype), jax.ShapeDtypeStruct((2, 2), bool)
        side = Side(local, mask, gate=jax.ShapeDtypeStruct((2, 2), "float32"))
        jax.eval_shape(self.score, self.init(), side, side)

    def with_implementation(self, name):
        return dataclasses.replace(self, implementation=name)

    def attention(self, parameters):
        if self.pool not in POOLS_WITH_TEMPERATURE:
            return Attention(self.pool)
        return Attention(self.pool, self.current("attention_temperature", parameters))

    def _pooling(self, parameters):
        options = {"pool": self.pool, "implementation": self.implementation}
        if self.pool in POOLS_WITH_TEMPERATURE:
            options["temperature"] = self.current("attention_temperature", parameters)
        return options

    def _temperatures(self):
        temperatures = super()._temperatures()
        if self.pool in POOLS_WITH_TEMPERATURE:
            temperatures["attention_temperature"] = self.learn_attention_temperature
        return temperatures


def top1_accuracy(scores: Scores, axis_name: AxisName = None) -> Float[Array, ""]:
    """The mean of two shares: of clips whose own caption has the highest score, and of captions
    whose own clip has.

    Over the valid clips of all devices; a tie counts as wrong. With candidates, only compared pairs
    are rivals.
    """
    s, compared, _ = scores.of_all_captions(axis_name)
    valid = scores.valid
    own = matched_pairs(*s.shape, axis_name)
    positive = jnp.sum(jnp.where(own, s, 0), axis=1)
    rivals = valid[:, None] & all_gather(valid, axis_name)[None] & ~own
    rivals = rivals if compared is None else rivals & compared
    rival_scores = jnp.where(rivals, s, -jnp.inf)
    best_caption = rival_scores.max(1)
    best_clip = all_to_all(rival_scores.max(0), axis_name).max(0)
    found = (valid & (positive > best_caption)).sum() + (valid & (positive > best_clip)).sum()
    return psum(found, axis_name) / (2 * jnp.maximum(psum(valid.sum(), axis_name), 1))
