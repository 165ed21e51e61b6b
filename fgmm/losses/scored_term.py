"""Terms with one score for each clip and caption, and the choice of pairs that are scored."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from fgmm.losses import similarity
from fgmm.losses.collectives import AxisName
from fgmm.losses.negatives import (
    check_candidates,
    clip_keys,
    hardest_candidates,
    importance_candidates,
    sampled_phrases,
)
from fgmm.losses.options import check_choice, check_positive
from fgmm.losses.scores import Scores
from fgmm.losses.term import (
    Metrics,
    Parameters,
    PhraseWeights,
    PooledTerm,
    Side,
    top1_accuracy,
)

# The weights of phrases and local embeddings in a score.
WEIGHTINGS = (*similarity.WEIGHTINGS, "learned")
NEGATIVES = ("all", "hardest", "importance", "sampled")
# The kinds by which a clip chooses whole captions.
_CHOOSING = ("hardest", "importance")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredTerm(PooledTerm):
    """A term with one score for each clip and caption; see ``similarity.clip_similarity``.

    Attributes:
      direction: which side attends over which: 'y_to_x', 'x_to_y' or 'symmetric'.
      weighting: the weights of phrases in a score: 'uniform', 'softmax' over their scores, or
        'learned' by the gates of the heads.
      local_weighting: the weights of local embeddings, in directions 'x_to_y' and 'symmetric';
        empty for the same as ``weighting``.
      phrase_temperature: of weights 'softmax', on either side.
      negatives: what a clip is compared with in training: 'all' captions; 'hardest', the captions
        with the highest coarse scores; 'importance', captions drawn by coarse scores; or 'sampled',
        random phrases of every caption. See ``negatives``.
      candidates: for 'hardest' and 'importance': how many captions a clip is compared with, its own
        included.
      sampled_phrases: for 'sampled': how many phrases of each caption; all of its phrases if it has
        fewer.
    """

    direction: str = "y_to_x"
    weighting: str = "uniform"
    local_weighting: str = ""
    phrase_temperature: float = 0.1
    negatives: str = "all"
    candidates: int = 0
    sampled_phrases: int = 0

    def __post_init__(self):
        super().__post_init__()
        self._check_negatives()
        check_choice("direction", self.direction, similarity.DIRECTIONS)
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_positive(phrase_temperature=self.phrase_temperature)
        if self.local_weighting:
            self._check_local_weighting()

    def _check_local_weighting(self):
        check_choice("local_weighting", self.local_weighting, WEIGHTINGS)
        if self.direction == "y_to_x":
            raise ValueError(
                f"local_weighting {self.local_weighting!r} needs direction 'x_to_y' or "
                "'symmetric'; got 'y_to_x', in which only phrases are weighed"
            )
        if self.direction == "x_to_y" and self.weighting != "uniform":
            raise ValueError(
                f"weighting {self.weighting!r} beside local_weighting needs direction 'symmetric'; "
                "got 'x_to_y', in which only local embeddings are weighed"
            )
        kinds = {self.weighting, self.local_weighting}
        if self.direction == "symmetric" and kinds == {"uniform", "softmax"}:
            raise ValueError(
                "sides without a gate have weights of one kind; got weighting "
                f"{self.weighting!r} and local_weighting {self.local_weighting!r}"
            )

    def _check_negatives(self):
        check_choice("negatives", self.negatives, NEGATIVES)
        sizes = {"candidates": _CHOOSING, "sampled_phrases": ("sampled",)}
        for option, kinds in sizes.items():
            size, used = getattr(self, option), self.negatives in kinds
            if used and size < 1:
                raise ValueError(
                    f"negatives {self.negatives!r} needs {option} of at least 1; got {size}"
                )
            if not used and size != 0:
                raise ValueError(
                    f"{option} belongs to negatives {' or '.join(map(repr, kinds))}; got {size} "
                    f"with negatives {self.negatives!r}"
                )
        if self.negatives != "all" and self.implementation == "kernel":
            raise ValueError(
                f"negatives {self.negatives!r} needs implementation 'blockwise' or 'dense'; "
                "got 'kernel', which compares all pairs"
            )

    @property
    def needs_coarse(self):
        return self.negatives in _CHOOSING

    @property
    def draws(self):
        return self.negatives in ("importance", "sampled")

    def check_batch(self, clips, exchange):
        if self.negatives in _CHOOSING:
            check_candidates(self.candidates, clips)
            if exchange == "ring":
                raise ValueError(
                    f"negatives {self.negatives!r} needs exchange 'gather'; got 'ring'"
                )

    def contrast(
        self, parameters: Parameters, scores: Scores, axis_name: AxisName
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of scores, and metrics in addition to accuracy and temperatures."""
        raise NotImplementedError

    def __call__(
        self,
        parameters,
        x,
        y,
        *,
        phrase_ids=None,
        step,
        key=None,
        axis_name=None,
        exchange="gather",
    ):
        """As ``Term.__call__``. ``key`` is the random key of the step, the same on all devices;
        only terms that draw need it.
        """
        del phrase_ids, step
        s = self.compared(parameters, x, y, key=key, axis_name=axis_name, exchange=exchange)
        loss, metrics = self.contrast(parameters, s, axis_name)
        return loss, {
            "top1": top1_accuracy(s, axis_name),
            **metrics,
            **self.temperatures(parameters),
        }

    def compared(
        self,
        parameters: Parameters,
        x: Side,
        y: Side,
        *,
        key: PRNGKeyArray | None = None,
        axis_name: AxisName = None,
        exchange: str = "gather",
    ) -> Scores:
        """The scores that the loss contrasts, for the pairs that ``negatives`` chooses.

        Args:
          key: the random key of the step, the same on all devices; None if nothing is drawn.
          parameters, x, y, axis_name, exchange: as in ``Term.__call__``.

        Raises:
          ValueError: coarse embeddings or the key are needed but missing.
        """
        across = {"axis_name": axis_name, "exchange": exchange}
        if self.negatives == "all":
            return self.score(parameters, x, y, **across)
        keys = None
        if self.draws:
            if key is None:
                raise ValueError(f"negatives {self.negatives!r} are drawn and need a key; got None")
            keys = clip_keys(key, len(x.local), axis_name)
        if self.negatives == "sampled":
            return self._of_sampled_phrases(parameters, x, y, keys, across)
        if x.coarse is None or y.coarse is None:
            raise ValueError(f"negatives {self.negatives!r} need coarse embeddings; got None")
        options = {
            "k": self.candidates,
            "temperature": self.current("temperature", parameters),
            "axis_name": axis_name,
        }
        with jax.named_scope("coarse_scores"):
            coarse = similarity.clip_similarity(
                *(v[:, None] for v in jax.lax.stop_gradient((x.coarse, y.coarse))),
                *(side.mask.any(1, keepdims=True) for side in (x, y)),
                pool="mean",
                axis_name=axis_name,
            )
        if self.negatives == "hardest":
            candidates, counts = hardest_candidates(coarse, **options), None
        else:
            candidates, counts = importance_candidates(coarse, **options, keys=keys)
        scores = self.score(parameters, x, y, candidates=candidates, **across)
        return dataclasses.replace(scores, counts=counts)

    def _of_sampled_phrases(self, parameters, x, y, keys, across):
        """Scores of clips with some phrases of every caption.

        A clip's own caption has no more phrases than the others. With more of them a pool over
        phrases would give it a higher score whatever they say.
        """
        m = min(self.sampled_phrases, y.mask.shape[1])
        drawn = sampled_phrases(y.mask, m=m, keys=keys)
        local = jnp.take_along_axis(y.local, drawn[:, :, None], axis=1)
        mask, gate = (
            v if v is None else jnp.take_along_axis(v, drawn, axis=1) for v in (y.mask, y.gate)
        )
        return self.score(parameters, x, Side(local, mask, gate=gate), **across)

    @property
    def gated_sides(self):
        return tuple(side for side, kind in self._weightings().items() if kind == "learned")

    def score(self, parameters, x, y, *, candidates=None, axis_name=None, exchange="gather"):
        """As ``Term.score``; ``candidates`` as in ``similarity.pooled_similarity``."""
        kinds = self._weightings()
        softmax = "softmax" in kinds.values()
        gates = {f"{side}_gate": _gate(side, {"x": x, "y": y}[side]) for side in self.gated_sides}
        return similarity.clip_similarity(
            *(x.local, y.local, x.mask, y.mask),
            direction=self.direction,
            weighting="softmax" if softmax else "uniform",
            phrase_temperature=self.phrase_temperature if softmax else None,
            **gates,
            **self._pooling(parameters),
            candidates=candidates,
            axis_name=axis_name,
            exchange=exchange,
        )

    def attention(self, parameters):
        # In direction x_to_y local embeddings attend over phrases; phrases do not attend.
        return None if self.direction == "x_to_y" else super().attention(parameters)

    def phrase_weights(self, parameters, scores, *, step, gate=None):
        if self.direction == "x_to_y":
            return None
        if self.weighting == "learned":
            return PhraseWeights(similarity.gate_weights(gate), "learned, of the phrases alone")
        if self.weighting == "uniform":
            return PhraseWeights.uniform(scores)
        return PhraseWeights.softmax(scores, self.phrase_temperature)

    def _weightings(self):
        """The kind of weights of each side, ``x`` or ``y``, that has weights."""
        of_sides = {"x": self.local_weighting or self.weighting, "y": self.weighting}
        unweighed = {"y_to_x": "x", "x_to_y": "y", "symmetric": ""}[self.direction]
        return {side: kind for side, kind in of_sides.items() if side != unweighed}


def _gate(name: str, side: Side) -> Float[Array, "B *K N"]:
    if side.gate is None:
        raise ValueError(f"weighting 'learned' needs a gate; side {name} has none")
    return side.gate
