"""Losses: pure functions of arrays, for any trainer in JAX. Imports nothing but JAX and jaxtyping.

Similarities of clips and captions from their local embeddings (``similarity``)::

    s = pooled_similarity(x, y, x_mask, y_mask, pool="softmax", temperature=0.1)   # [B, C, P]
    S = clip_similarity(x, y, x_mask, y_mask, pool="softmax", temperature=0.1)     # [B, C]

Unless the local similarities a [B, C, N, P] are few, they are computed in blocks, and again in the
backward pass, so that memory grows as for a coarse loss. ``implementation="dense"`` keeps all of a
in memory.

A clip may be compared with candidates only, chosen by coarse scores (``negatives``)::

    candidates = hardest_candidates(coarse_scores, k=64, temperature=0.07)                  # [B, K]
    S = clip_similarity(x, y, candidates=candidates, pool="softmax", temperature=0.1)       # [B, K]

Contrastive losses on them (``contrastive``)::

    loss = info_nce(S, temperature=0.07)
    loss = fine_grained_nce(s, temperature=0.07)

Similarities are ``Scores``: the array ``values`` together with its masks, so that the losses leave
out masked entries.

These functions are jitted and may be differentiated, vmapped and called inside a jit. With
``axis_name`` they work within a ``shard_map`` or ``pmap`` over sharded clips; ``sharded`` turns
such a loss into one of whole arrays.

Supervised losses of a classifier's logits are in ``supervised``::

    loss = softmax_cross_entropy(logits, labels, mask, label_smoothing=0.1)

Learned temperatures in the conventions of CLIP and SigLIP are in ``temperature``; losses with their
options and parameters in ``term`` and ``terms``; weighted sums of these in ``objective``.
"""

from fgmm.losses.contrastive import (
    fine_grained_nce,
    info_nce,
    matched_weights,
    mil_nce,
    sigmoid,
    sparc,
)
from fgmm.losses.label_term import LabelTerm
from fgmm.losses.negatives import (
    clip_keys,
    hardest_candidates,
    importance_candidates,
    sampled_phrases,
)
from fgmm.losses.objective import Embeddings, LabelEntry, Objective, TermEntry
from fgmm.losses.scores import Scores
from fgmm.losses.sharded import sharded
from fgmm.losses.similarity import (
    attention_weights,
    clip_similarity,
    gate_weights,
    matched_similarity,
    pooled_similarity,
)
from fgmm.losses.supervised import sigmoid_cross_entropy, softmax_cross_entropy
from fgmm.losses.temperature import (
    CLIP_INITIAL_LOGIT_SCALE,
    CLIP_INITIAL_TEMPERATURE,
    CLIP_MAXIMUM_SCALE,
    SIGLIP_INITIAL_BIAS,
    SIGLIP_INITIAL_TEMPERATURE,
    temperature_from_logit_scale,
)
from fgmm.losses.term import Attention, PhraseWeights, Side, Term

__all__ = [
    "CLIP_INITIAL_LOGIT_SCALE",
    "CLIP_INITIAL_TEMPERATURE",
    "CLIP_MAXIMUM_SCALE",
    "SIGLIP_INITIAL_BIAS",
    "SIGLIP_INITIAL_TEMPERATURE",
    "Attention",
    "Embeddings",
    "LabelEntry",
    "LabelTerm",
    "Objective",
    "PhraseWeights",
    "Scores",
    "Side",
    "Term",
    "TermEntry",
    "attention_weights",
    "clip_keys",
    "clip_similarity",
    "fine_grained_nce",
    "gate_weights",
    "hardest_candidates",
    "importance_candidates",
    "info_nce",
    "matched_similarity",
    "matched_weights",
    "mil_nce",
    "pooled_similarity",
    "sampled_phrases",
    "sharded",
    "sigmoid",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparc",
    "temperature_from_logit_scale",
]
