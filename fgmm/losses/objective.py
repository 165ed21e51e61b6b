"""The objective of training: a weighted sum of named terms over pairs of modalities."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, ScalarLike

from fgmm.losses.collectives import AxisName, varying_alike
from fgmm.losses.label_term import LabelTerm
from fgmm.losses.options import check_choice
from fgmm.losses.term import Metrics, Parameters, Side, Term

# The two sides of a pair: embeddings of clips [B,N,D], and of captions [B,K,P,D].
PAIRS = {
    "video_text": ("video", "text"),
    "video_audio": ("video", "audio_segments"),
    "audio_text": ("audio", "text"),
}
LEVELS = ("fine", "coarse")
# The scores to rank by: S_fine, S_coarse, or S_fine / τ_fine + S_coarse / τ_coarse.
SCORES = ("sum", *LEVELS)
# The key, beside those of spaces, under which the logits of classifiers are.
LOGITS = "classifiers"


@runtime_checkable
class Embeddings(Protocol):
    """The output of a head: [B,N,D] for clips, [B,K,P,D] for captions and for segments of audio.

    Attributes:
      local: local or phrase embeddings.
      mask: which of them are valid; all False for a clip without this modality.
      coarse: one embedding per clip [B,D] or per caption [B,K,D].
      gates: logits of the learned weights of ``local``; None where there are none.
    """

    local: Float[Array, "B *rest D"]
    mask: Bool[Array, "B *rest"]
    coarse: Float[Array, "B *k D"]
    gates: Float[Array, "B *rest"] | None


class LossInputs(NamedTuple):
    """The inputs of every term of an objective; see ``Objective.__call__``."""

    embeddings: Mapping[str, Mapping[str, Any]]
    batch: Mapping[str, Array]
    step: ScalarLike
    key: PRNGKeyArray | None
    axis_name: AxisName
    exchange: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TermEntry:
    """A term's place in the objective.

    Attributes:
      term: the loss.
      pair: 'video_text', 'video_audio' or 'audio_text'.
      level: 'fine' compares local embeddings with phrases, 'coarse' clips with captions.
      space: name of the embedding space in which they are compared.
      weight: factor of the loss in the sum.
    """

    term: Term
    pair: str
    level: str
    space: str
    weight: float = 1.0

    def __post_init__(self):
        check_choice("pair", self.pair, tuple(PAIRS))
        check_choice("level", self.level, LEVELS)
        check_choice(f"level of {type(self.term).__module__}", self.level, self.term.levels)
        if self.level == "coarse" and self.term.gated_sides:
            raise ValueError(
                "weighting 'learned' needs level 'fine': coarse embeddings have no gate"
            )
        if self.level == "coarse" and (self.term.needs_coarse or self.term.draws):
            raise ValueError("negatives other than 'all' need level 'fine'; got 'coarse'")
        _check_weight(self.weight)

    def __call__(
        self, name: str, parameters: Parameters, given: LossInputs
    ) -> tuple[Float[Array, ""], Metrics]:
        """The unweighted loss and the metrics of this term."""
        clips, captions = (_found(name, self.space, m, given.embeddings) for m in PAIRS[self.pair])
        phrase_ids = None
        if PAIRS[self.pair][1] == "text":
            phrases = captions.mask.shape[2] if self.level == "fine" else None
            phrase_ids = phrase_identities(
                given.batch["tokens"], given.batch["phrase_ids"], phrases
            )
        side = _fine if self.level == "fine" else _coarse
        drawing = {"key": given.key} if self.term.draws else {}
        return self.term(
            *(parameters, side(clips), side(captions)),
            phrase_ids=phrase_ids,
            step=given.step,
            **drawing,
            axis_name=given.axis_name,
            exchange=given.exchange,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelEntry:
    """A supervised term's place in the objective.

    Attributes:
      term: the loss.
      classifier: name of the classifier whose logits are compared with the batch's labels.
      modality: the input of the classifier; a clip without this modality does not count.
      weight: factor of the loss in the sum.
    """

    term: LabelTerm
    classifier: str
    modality: str
    weight: float = 1.0

    # It compares no modalities with each other.
    pair: ClassVar[str] = ""
    level: ClassVar[str] = ""
    space: ClassVar[str] = ""

    def __post_init__(self):
        _check_weight(self.weight)

    def __call__(
        self, name: str, parameters: Parameters, given: LossInputs
    ) -> tuple[Float[Array, ""], Metrics]:
        """The unweighted loss and the metrics of this term."""
        batch = given.batch
        return self.term(
            _found(name, LOGITS, self.classifier, given.embeddings),
            batch["labels"],
            batch["labels_mask"] & batch[f"{self.modality}_mask"],
            axis_name=given.axis_name,
        )


def _check_weight(weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight must be a finite number of at least 0; got {weight}")


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """The weighted sum of named terms. The objective of a converted encoder has no terms and cannot
    be trained.

    Attributes:
      terms: the terms by name.
      score: the score by which evaluations rank, one of ``SCORES``.
    """

    terms: Mapping[str, TermEntry | LabelEntry]
    score: str = "sum"

    def __post_init__(self):
        check_choice("score", self.score, SCORES)
        if self.score in LEVELS and all(e.level != self.score for e in self.terms.values()):
            raise ValueError(f"score {self.score!r} needs a term of that level; there is none")
        for name in self.terms:
            if not name or "/" in name or name == "loss":
                raise ValueError(
                    f"a term's name heads its metrics: no '/', not 'loss', not empty; got {name!r}"
                )
        trained = {(e.pair, e.space) for e in self.terms.values() if e.level == "coarse"}
        for name, entry in self.terms.items():
            if entry.term.needs_coarse and (entry.pair, entry.space) not in trained:
                raise ValueError(
                    f"term {name!r} chooses negatives by coarse embeddings; add a term of level "
                    f"'coarse' on {entry.pair} in space {entry.space!r}, which trains them"
                )

    @property
    def compared(self) -> dict[str, TermEntry]:
        """The terms that compare two modalities."""
        return {name: entry for name, entry in self.terms.items() if entry.pair}

    @property
    def supervised(self) -> dict[str, LabelEntry]:
        """The terms that compare logits with labels."""
        return {name: entry for name, entry in self.terms.items() if not entry.pair}

    def init(self) -> dict[str, dict[str, Float[Array, ""]]]:
        """The learned parameters of every term at the start of training."""
        return {name: entry.term.init() for name, entry in self.terms.items()}

    def __call__(
        self,
        parameters: Mapping[str, Parameters],
        embeddings: Mapping[str, Mapping[str, Embeddings | Float[Array, "B classes"]]],
        batch: Mapping[str, Array],
        step: ScalarLike,
        *,
        key: PRNGKeyArray | None = None,
        axis_name: AxisName = None,
        exchange: str = "gather",
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of a batch.

        Args:
          parameters: as from ``init``.
          embeddings: by space and modality, 'video', 'audio', 'text' or 'audio_segments'; under
            ``LOGITS`` the logits of classifiers [B,classes] by name.
          batch: if a pair has text, ``tokens`` and ``phrase_ids`` [B,K,L], the phrase 1..P of each
            token and 0 for padding. For supervised terms ``labels`` [B] or [B,classes],
            ``labels_mask`` [B] and the mask [B] of the modality.
          step: the training step, from 0.
          key: the random key of this step, the same on all devices; None if no term draws. All
            terms get this key, so terms that draw alike choose the same negatives.
          axis_name, exchange: as in ``similarity.pooled_similarity``. With ``axis_name``,
            embeddings and batch are those of the device's own clips, and loss and metrics are
            those of all clips.

        Returns:
          The loss; and metrics, named 'loss/TERM' for each term's unweighted loss and 'TERM/METRIC'
          for others.

        Raises:
          ValueError: embeddings that a term needs are missing.
        """
        given = LossInputs(embeddings, batch, step, key, axis_name, exchange)
        loss = jnp.zeros(())
        metrics = {}
        for name, entry in self.terms.items():
            term_loss, term_metrics = entry(name, parameters[name], given)
            loss += entry.weight * term_loss
            metrics[f"loss/{name}"] = term_loss
            metrics |= {f"{name}/{metric}": value for metric, value in term_metrics.items()}
        return loss, metrics


@functools.partial(jax.jit, static_argnames="phrases")
def phrase_identities(
    tokens: Int[Array, "B K L"], phrase_ids: Int[Array, "B K L"], phrases: int | None
) -> Int[Array, "B J"]:
    """Numbers that are equal where phrases have the same tokens in the same order.

    They are hashes of 32 bits: of M different phrases about M²/2³³ pairs share a number by chance
    (0.03 in a batch of 16,384 phrases). The only effect is that two such phrases are not negatives
    of each other.

    Args:
      tokens: tokens of K captions per clip.
      phrase_ids: phrase 1..P of each token, 0 for padding.
      phrases: P, for an identity of each phrase, J = K·P; None for one of each caption, J = K.
    """
    if phrases is None:
        phrases, phrase_ids = 1, jnp.minimum(phrase_ids, 1)

    def absorb(hashes, token_and_phrase):
        token, phrase = token_and_phrase
        absorbed = _mixed(hashes ^ token[:, :, None])
        members = phrase[:, :, None] == jnp.arange(1, phrases + 1)[None, None]
        return jnp.where(members, absorbed, hashes), None

    B, K, _ = tokens.shape
    start = jnp.full((B, K, phrases), 0x9E3779B9, jnp.uint32)
    by_position = (jnp.moveaxis(tokens.astype(jnp.uint32), 2, 0), jnp.moveaxis(phrase_ids, 2, 0))
    start, *by_position = varying_alike((start, *by_position))
    hashes, _ = jax.lax.scan(absorb, start, tuple(by_position))
    return jax.lax.bitcast_convert_type(hashes, jnp.int32).reshape(B, K * phrases)


def _mixed(h):
    """The final mix of MurmurHash3: one to one; each bit of h changes about half of the result's
    bits.
    """
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def _found(name, space, modality, embeddings):
    if modality not in embeddings.get(space, {}):
        known = [f"{space}/{modality}" for space in embeddings for modality in embeddings[space]]
        raise ValueError(
            f"term {name!r} needs embeddings {space}/{modality}; there are {', '.join(known)}"
        )
    return embeddings[space][modality]


def _fine(embeddings):
    """The local embeddings of clips, or the phrases of all captions of a clip in one axis, K·P."""
    local, mask, gates = embeddings.local, embeddings.mask, embeddings.gates
    if mask.ndim == 2:
        return Side.of(embeddings)._replace(coarse=embeddings.coarse)
    B, K, P = mask.shape
    caption = jnp.broadcast_to(jnp.arange(K)[:, None], mask.shape)
    by_phrase = (v if v is None else v.reshape(B, K * P) for v in (mask, caption, gates))
    # The mean of a clip's captions: its score is the mean of their scores.
    there = mask.any(2)[:, :, None]
    coarse = jnp.sum(jnp.where(there, embeddings.coarse, 0), axis=1)
    coarse /= jnp.maximum(jnp.sum(there, axis=1), 1).astype(coarse.dtype)
    return Side(local.reshape(B, K * P, -1), *by_phrase, coarse=coarse)


def _coarse(embeddings):
    """Coarse embeddings as a side: a clip is its only local embedding, N = 1; captions are phrases,
    P = K.
    """
    coarse = embeddings.coarse
    valid = embeddings.mask.any(-1)
    return Side(coarse[:, None], valid[:, None]) if coarse.ndim == 2 else Side(coarse, valid)
