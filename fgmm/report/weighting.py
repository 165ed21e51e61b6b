"""How much the phrases of a clip count in a term of the objective."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fgmm.losses import contrastive
from fgmm.losses.term import ScoredTerm, Term
from fgmm.losses.terms import fine_grained_nce, mil_nce


def weights_of_phrases(
    term: Term, parameters: Mapping[str, Array], scores: Float[np.ndarray, "P"], step: int
) -> tuple[str, Float[np.ndarray, "P"]]:
    """How a fine term weighs the phrases of a clip, in words, and the weights.

    For showing only: weights of the matched pair would give the answer away in an evaluation.

    Args:
      term: its options.
      parameters: what it has learned.
      scores: of the clip's phrases, pooled over the clip.
      step: of training, for weights that are annealed.

    Returns:
      The weights sum to 1, or to less where a null slot takes its share.
    """

    def softmax(temperature, null_score=None):
        weights = contrastive.phrase_weights(
            jnp.asarray(scores)[None, None], temperature, null_score=null_score
        )
        return np.asarray(weights[0])

    uniform = np.full(scores.shape, 1 / len(scores), scores.dtype)
    if isinstance(term, ScoredTerm) and term.phrase_weights == "softmax":
        temperature = term.phrase_temperature
        return f"softmax of the scores at temperature {temperature:.3g}", softmax(temperature)
    if isinstance(term, mil_nce.Term):
        temperature = float(term.current("temperature", parameters))
        return f"shares of the bag, at temperature {temperature:.3g}", softmax(temperature)
    if isinstance(term, fine_grained_nce.Term) and term.weights == "matched":
        temperature, share = term.weights_temperature, float(term.matched_share(step))
        null_score = parameters["null_score"] if term.null_slot else None
        described = f"{share:.0%} matched (softmax of the scores at temperature {temperature:.3g}"
        described += ", beside a null slot)" if term.null_slot else ")"
        return described, (1 - share) * uniform + share * softmax(temperature, null_score)
    return "uniform", uniform
