"""Contrast of single phrases, in which noisy phrases may get less weight."""

import dataclasses
import functools

import jax.numpy as jnp

from fgmm.losses import contrastive
from fgmm.losses.collectives import mean_of_valid
from fgmm.losses.dense import pool_weights
from fgmm.losses.noise_rate import NoisyTerm
from fgmm.losses.options import check_choice, check_positive
from fgmm.losses.term import PhraseWeights, top1_accuracy

WEIGHTS = ("uniform", "matched")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(NoisyTerm):
    """``contrastive.fine_grained_nce`` on ``similarity.pooled_similarity``.

    The weights of phrases are uniform, or move in training to weights by their score in the matched
    pair: β = (1 − α)·uniform + α·matched, with α rising from 0 at ``anneal_start`` to 1 at
    ``anneal_end``.

    With a null slot the matched weights of a clip's phrases sum to less than 1. The rest of the
    weight multiplies the loss of guessing, which is the loss if all scores were equal. So the
    learned score of the slot rises while the phrases are predicted worse than by guessing, and
    falls while they are predicted better.

    Attributes:
      weights: 'uniform' or 'matched'.
      weights_temperature: temperature of the softmax of matched weights.
      anneal_start, anneal_end: training steps; 0 and 0 for matched weights from the start.
      null_slot: whether matched weights have a null slot.
      null_score: initial score of the null slot.
      same_phrase_negatives: whether an equal phrase of another clip is a negative.
    """

    weights: str = "uniform"
    weights_temperature: float = 0.1
    anneal_start: int = 0
    anneal_end: int = 0
    null_slot: bool = False
    null_score: float = 0.0
    same_phrase_negatives: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_choice("weights", self.weights, WEIGHTS)
        check_positive(weights_temperature=self.weights_temperature)
        if not 0 <= self.anneal_start <= self.anneal_end:
            raise ValueError(
                "anneal_start must be at least 0 and at most anneal_end; "
                f"got {self.anneal_start} and {self.anneal_end}"
            )
        if self.weights == "uniform" and (self.null_slot or self.anneal_end > 0):
            raise ValueError(
                "null_slot and annealing belong to weights 'matched'; got weights 'uniform' with "
                f"null_slot {self.null_slot} and anneal_end {self.anneal_end}"
            )

    def init(self):
        null = {"null_score": jnp.float32(self.null_score)} if self.null_slot else {}
        return {**super().init(), **null}

    def __call__(
        self, parameters, x, y, *, phrase_ids=None, step, axis_name=None, exchange="gather"
    ):
        s = self.pooled_similarity(parameters, x, y, axis_name=axis_name, exchange=exchange)
        temperature = self.current("temperature", parameters)
        phrase_ids = None if self.same_phrase_negatives else phrase_ids
        noise = self.noise(parameters)
        contrast = functools.partial(
            contrastive.fine_grained_nce, phrase_ids=phrase_ids, **noise, axis_name=axis_name
        )
        scores = self.clip_scores(parameters, s, axis_name=axis_name)
        metrics = {
            "top1": top1_accuracy(scores, axis_name),
            **noise,
            **self.temperatures(parameters),
        }
        if self.weights == "uniform":
            return contrast(s, temperature=temperature), metrics

        null_score = parameters["null_score"] if self.null_slot else None
        matched = contrastive.matched_weights(
            s,
            temperature=self.weights_temperature,
            null_score=null_score,
            axis_name=axis_name,
        )
        uniform = pool_weights(jnp.zeros_like(matched), y.mask, pool="mean", axis=1)
        share = self.matched_share(step)
        weights = (1 - share) * uniform + share * matched
        loss = contrast(s, temperature=temperature, weights=weights)
        metrics["matched_share"] = share
        if self.null_slot:
            equal = dataclasses.replace(s, values=jnp.zeros_like(s.values))
            guessing = contrast(equal, temperature=1.0, reduction="none")
            null_weight = jnp.where(s.valid, 1 - weights.sum(1), 0)
            loss += mean_of_valid(null_weight * guessing, s.valid, axis_name)
            null_share = mean_of_valid(null_weight, s.valid, axis_name)
            metrics |= {"null_weight": null_share, "null_score": null_score}
        return loss, metrics

    def phrase_weights(self, parameters, scores, *, step, gate=None):
        uniform = PhraseWeights.uniform(scores)
        if self.weights == "uniform":
            return uniform
        null_score = parameters["null_score"] if self.null_slot else None
        matched = contrastive.matched_weights(
            scores[None, None], temperature=self.weights_temperature, null_score=null_score
        )[0]
        share = float(self.matched_share(step))
        described = f"{share:.0%} matched (softmax of the scores at temperature "
        described += f"{self.weights_temperature:.3g}"
        described += ", beside a null slot)" if self.null_slot else ")"
        return PhraseWeights((1 - share) * uniform.weights + share * matched, described)

    def matched_share(self, step):
        """α at a step of training."""
        if self.anneal_end == self.anneal_start:
            return jnp.asarray(step >= self.anneal_start, float)
        progress = (step - self.anneal_start) / (self.anneal_end - self.anneal_start)
        return jnp.clip(progress, 0.0, 1.0)
