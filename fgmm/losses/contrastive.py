"""Contrastive losses: pure functions of scores, in which clip i belongs to caption i.

Scores ``s`` are ``Scores``, as from ``similarity``, or an array. All other arguments are keywords,
in this order: ``temperature``, ``mask``, arguments of the one loss, ``pairs``, ``valid``,
``reduction``, ``axis_name``.

A clip is valid if it and its caption have valid entries, by ``Scores`` and ``mask``, and if
``valid`` [B] does not exclude it. An invalid clip is neither a positive nor a negative; its loss is
0 and its scores have no gradient, even if they are NaN. Without a valid clip the whole loss is 0.
If the *embeddings* of a clip hold NaN, exclude it by its masks: similarity multiplies everything
that is not masked with the embeddings of others. ``reduction`` is 'mean', over valid clips, or
'none', the loss of each clip [B]. Everything is computed in float32 or wider.

``pairs`` [B,C] says which clips and captions are negatives of each other; a clip's own caption
always counts. ``Scores`` of candidates imply it: each clip is compared with its candidates, and a
caption with the clips that chose it. A clip whose own caption is not among its candidates is
invalid.

Within a ``shard_map`` or ``pmap``, ``axis_name`` is the mapped axis, or axes, over which clips are
sharded. A device passes the arrays of its own b clips: their rows [b,C] or [b,C,P] of s, as from
``similarity``, their rows [b,C] of ``pairs``, their ``valid`` [b], the ``mask`` [b,P] of their
captions, and so on. 'mean' is over the valid clips of all devices, the same number on each; 'none'
gives the losses [b] of the device's own clips. Only sums over the columns of s are sent between
devices. Without ``axis_name`` there is one device, and b is B: within a ``shard_map`` the negatives
are then only those of the device. ``sharded`` says more about gradients and bytes.

``noise_rate`` ω is the share of pairs that are wrong, in (0, 1); None means 0. Each −log p of a
softmax over M entries becomes −log((1 − ω) p + ω/M): a pair is wrong with probability ω, and then
every entry is as likely. The gradient is that of −log p times the posterior probability that the
pair is right, (1 − ω) p / ((1 − ω) p + ω/M). It is the noise layer of Goldberger and Ben-Reuven,
"Training deep neural-networks using a noise adaptation layer", ICLR 2017, with uniform noise.

A softmax loss is computed as log(m + Σ exp(negatives − positive)), which stays exact if the loss is
small; m is how often the positive counts in its own denominator, normally once.

All functions raise a ValueError that names the argument if an array is not as annotated, a
temperature is not above 0, B and C differ, or the reduction is unknown.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from fgmm.losses import collectives
from fgmm.losses.arguments import jitted
from fgmm.losses.collectives import AxisName, accumulation_dtype, all_gather, mean_of_valid
from fgmm.losses.dense import pool_weights
from fgmm.losses.options import check_choice
from fgmm.losses.scores import Scores, both

REDUCTIONS = ("mean", "none")

# The logit of an excluded entry. It is finite, so that a sum over excluded entries has finite
# differences and derivatives.
_NEVER = -1e30


@jitted("reduction", "axis_name")
def info_nce(
    s: Scores | Float[Array, "b C"],
    *,
    temperature: ScalarLike,
    noise_rate: ScalarLike | None = None,
    pairs: Bool[Array, "b C"] | None = None,
    valid: Bool[Array, "b"] | None = None,
    reduction: str = "mean",
    axis_name: AxisName = None,
) -> Float[Array, "..."]:
    """The symmetric softmax loss of CLIP (Radford et al. 2021, arXiv 2103.00020, figure 3).

    The loss of clip i is −½ log softmax_c(s[i,c]/τ)[i] − ½ log softmax_b(s[b,i]/τ)[i].

    Args:
      s: scores of B clips and as many captions.
      temperature: τ, above 0, in the units of s.
      noise_rate: the share of captions that belong to another clip; see the module.
      pairs, valid, reduction, axis_name: see the module.
    """
    s, pairs, own, valid, counts = _pairs(s, pairs, valid, axis_name)
    negatives = pairs & ~own

    def directions(logits):
        positive = _matched(logits, own)
        logits = _counted(logits, counts, negatives)
        row = _log_sum_exp(logits, negatives, axis=1)
        column = _log_sum_exp_of_column(logits, negatives, 0, axis_name)
        return _contrast(positive, row), _contrast(positive, column)

    row, column = _with_noise(directions, _logits(s, pairs, temperature), noise_rate)
    return _reduced((row + column) / 2, valid, reduction, axis_name)


@jitted("reduction", "axis_name")
def sigmoid(
    s: Scores | Float[Array, "b C"],
    *,
    temperature: ScalarLike,
    bias: ScalarLike,
    pairs: Bool[Array, "b C"] | None = None,
    valid: Bool[Array, "b"] | None = None,
    reduction: str = "mean",
    axis_name: AxisName = None,
) -> Float[Array, "..."]:
    """The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, arXiv 2303.15343, equation 1).

    The loss of clip i is −Σ_c log sigmoid(z_ic (s[i,c]/τ + bias)), z = 1 for its own caption and −1
    for all others: a sum over captions, as published.

    Args:
      s: scores of B clips and as many captions.
      temperature: τ, above 0, in the units of s.
      bias: added to every logit. Start it strongly negative, since nearly all pairs are negatives.
      pairs, valid, reduction, axis_name: see the module.
    """
    s, pairs, own, valid, counts = _pairs(s, pairs, valid, axis_name)
    logits = _logits(s, pairs, temperature) + jnp.asarray(bias, accumulation_dtype(s.dtype))
    loss = jnp.where(pairs, jax.nn.softplus(jnp.where(own, -logits, logits)), 0)
    loss = loss if counts is None else loss * jnp.where(own, 1, counts)
    return _reduced(loss.sum(1), valid, reduction, axis_name)


@jitted("count_positives_twice", "reduction", "axis_name")
def mil_nce(
    s: Scores | Float[Array, "b C J"],
    *,
    temperature: ScalarLike = 1.0,
    mask: Bool[Array, "b J"] | None = None,
    count_positives_twice: bool = True,
    pairs: Bool[Array, "b C"] | None = None,
    valid: Bool[Array, "b"] | None = None,
    reduction: str = "mean",
    axis_name: AxisName = None,
) -> Float[Array, "..."]:
    """Contrast of bags of J candidates per clip (Miech et al. 2020, arXiv 1912.06430, equation 1).

    The loss of clip i is −log( Σ_j e^{s[i,i,j]/τ} / Σ ), where Σ runs over e^{s[i,c,j]/τ} for all c
    and j (its row) and over e^{s[b,i,j]/τ} for all b and j (its column). The published code
    concatenates row and column, so that the positives, which are in both, count twice: its loss
    never falls below log 2. It has no temperature.

    Args:
      s: scores of B clips with the J candidates (captions or phrases) of each of B clips.
      temperature: τ, above 0, in the units of s.
      mask: which candidates are valid, in addition to the masks of ``Scores``; None means all.
      count_positives_twice: whether positives count twice, as in the published code, or once, as
        in the equation.
      pairs, valid, reduction, axis_name: see the module; a clip without valid candidates is not
        valid.
    """
    s, pairs, own, valid, mask, counts = _pairs_of_bags(s, pairs, valid, mask, axis_name)
    logits = _logits(s, pairs, temperature)
    bag = _log_sum_exp(_matched(logits, own), mask, axis=1)
    negatives = pairs & ~own
    logits = _counted(logits, counts, negatives)
    row = _log_sum_exp(logits, negatives, axis=(1, 2))
    column = _log_sum_exp_of_column(logits, negatives, (0, 2), axis_name)
    loss = _contrast(bag, jnp.logaddexp(row, column), 2 if count_positives_twice else 1)
    return _reduced(loss, valid, reduction, axis_name)


@jitted("reduction", "axis_name")
def fine_grained_nce(
    s: Scores | Float[Array, "b C P"],
    *,
    temperature: ScalarLike,
    mask: Bool[Array, "b P"] | None = None,
    weights: Float[Array, "b P"] | None = None,
    phrase_ids: Int[Array, "b P"] | None = None,
    noise_rate: ScalarLike | None = None,
    pairs: Bool[Array, "b C"] | None = None,
    valid: Bool[Array, "b"] | None = None,
    reduction: str = "mean",
    axis_name: AxisName = None,
) -> Float[Array, "..."]:
    """Contrast of single phrases with weights.

    The loss of clip i is ½ Σ_p β[i,p] (u[i,p] + v[i,p]) with, from text to clip and back::

        u[i,p] = −log( e^{s[i,i,p]/τ} / Σ_b e^{s[b,i,p]/τ} )
        v[i,p] = −log( e^{s[i,i,p]/τ} / ( e^{s[i,i,p]/τ} + Σ_{c≠i} Σ_{p'} e^{s[i,c,p']/τ} ) )

    With ``phrase_ids``, clip b and phrase (c,p) are not negatives of each other, in either sum, if
    clip b has the same phrase among its own.

    Args:
      s: scores of B clips and the P phrases of each of as many captions.
      temperature: τ, above 0, in the units of s.
      mask: which phrases are valid, in addition to the masks of ``Scores``; None means all.
      weights: β, such as ``matched_weights``; None means uniform over the phrases of each clip.
        They are used as given, and gradients flow to them.
      phrase_ids: phrases with equal numbers are the same; None means that no two phrases are.
      noise_rate: the share of phrases that belong to another clip; see the module.
      pairs, valid, reduction, axis_name: see the module; a clip without valid phrases is not valid.
    """
    s, pairs, own, valid, mask, counts = _pairs_of_bags(s, pairs, valid, mask, axis_name)
    others = negatives = pairs & ~own
    if phrase_ids is not None:
        negatives = others & ~_narrated(phrase_ids, mask, axis_name)

    def directions(logits):
        positive = _matched(logits, own)
        logits = _counted(logits, counts, others)
        clips = _log_sum_exp_of_column(logits, negatives, 0, axis_name)
        phrases = _log_sum_exp(logits, negatives, axis=(1, 2))[:, None]
        return _contrast(positive, clips), _contrast(positive, phrases)

    u, v = _with_noise(directions, _logits(s, pairs, temperature), noise_rate)
    loss = (u + v) / 2
    if weights is None:
        weights = pool_weights(loss, mask, pool="mean", axis=1)
    # Masked before it is multiplied, since the weight of an invalid clip may be NaN.
    loss = jnp.sum(jnp.where(mask, weights, 0) * loss, axis=1)
    return _reduced(loss, valid, reduction, axis_name)


@jitted("axis_name")
def matched_weights(
    s: Scores | Float[Array, "b C P"],
    *,
    temperature: ScalarLike,
    mask: Bool[Array, "b P"] | None = None,
    null_score: ScalarLike | None = None,
    axis_name: AxisName = None,
) -> Float[Array, "b P"]:
    """β[c,p] = softmax_p(s[c,c,p] / temperature): the weights of phrases in their matched pair.

    They reduce the weight of phrases that the clip does not show. Use them only in a loss: in an
    evaluation, knowing the matched pair would reveal the answer.

    Args:
      s: scores of B clips and the P phrases of each of as many captions. No gradient flows to them.
      temperature: above 0, in the units of s.
      mask: which phrases are valid, in addition to the masks of ``Scores``; None means all.
      null_score: the score of an extra slot, "no phrase is shown", which takes a share of the
        weight; then Σ_p β < 1. Gradients flow to it.
      axis_name: see the module.

    Returns:
      β of the device's own captions; 0 for masked phrases.
    """
    values, _, own, *_ = _whole(s, None, axis_name)
    mask = _with_mask(s, mask)
    scores = values.astype(accumulation_dtype(values.dtype))
    scores = jax.lax.stop_gradient(_matched(scores, own[:, :, None]))
    if null_score is None:
        return pool_weights(scores, mask, pool="softmax", temperature=temperature, axis=1)
    null = jnp.broadcast_to(jnp.asarray(null_score, scores.dtype), (len(scores), 1))
    scores = jnp.concatenate([scores, null], axis=1)
    mask = jnp.concatenate([mask, jnp.ones_like(null, bool)], axis=1)
    return pool_weights(scores, mask, pool="softmax", temperature=temperature, axis=1)[:, :-1]


@jitted("precision", "reduction", "axis_name")
def sparc(
    x: Float[Array, "b N D"],
    y: Float[Array, "b P D"],
    x_mask: Bool[Array, "b N"] | None = None,
    y_mask: Bool[Array, "b P"] | None = None,
    *,
    temperature: ScalarLike,
    caption: Int[Array, "b P"] | None = None,
    precision: jax.lax.PrecisionLike = None,
    valid: Bool[Array, "b"] | None = None,
    reduction: str = "mean",
    axis_name: AxisName = None,
) -> Float[Array, "..."]:
    """The fine-grained loss of SPARC (Bica et al. 2024, arXiv 2401.09865, section 2).

    Each phrase p groups the clip's local embeddings with sparse weights (the pool 'sparc' of
    ``pooled_similarity``) into c_p = Σ_n w[n,p] x_n, scaled to length 1. Within its caption, groups
    and phrases are contrasted with each other; the loss of a clip is the mean over its phrases of
    −½ log softmax_q(<c_p, y_q>/τ)[p] − ½ log softmax_q(<c_q, y_p>/τ)[p]. Other clips are not
    negatives, so a coarse loss is trained beside it, as published.

    Args:
      x, y: local and phrase embeddings of the same clips, of unit length.
      x_mask, y_mask: which of them are valid; None means all. A valid clip has at least one valid
        embedding on each side.
      temperature: τ, above 0.
      caption: the number of the caption that a phrase belongs to; None if each clip has only one.
      precision: of the products, as in ``jax.lax.dot``.
      valid, reduction, axis_name: see the module.
    """
    dtype = accumulation_dtype(jnp.promote_types(x.dtype, y.dtype))
    einsum = functools.partial(jnp.einsum, precision=precision, preferred_element_type=dtype)
    x_mask = jnp.ones(x.shape[:2], bool) if x_mask is None else x_mask
    y_mask = jnp.ones(y.shape[:2], bool) if y_mask is None else y_mask
    if valid is not None:
        x_mask, y_mask = x_mask & valid[:, None], y_mask & valid[:, None]
    x = jnp.where(x_mask[:, :, None], x, 0)
    y = jnp.where(y_mask[:, :, None], y, 0)
    a = einsum("bnd,bpd->bnp", x, y)
    w = pool_weights(a, x_mask[:, :, None] & y_mask[:, None, :], pool="sparc", axis=1)
    groups = _unit(einsum("bnp,bnd->bpd", w, x))
    s = einsum("bpd,bqd->bpq", groups, y)

    mask = y_mask & x_mask.any(1, keepdims=True)
    pairs = mask[:, :, None] & mask[:, None, :]
    if caption is not None:
        pairs &= caption[:, :, None] == caption[:, None, :]
    own = jnp.eye(y.shape[1], dtype=bool)[None]
    negatives = pairs & ~own
    logits = _logits(s, pairs, temperature)
    positive = _matched(logits, own, axis=2)
    row = _log_sum_exp(logits, negatives, axis=2)
    column = _log_sum_exp(logits, negatives, axis=1)
    loss = (_contrast(positive, row) + _contrast(positive, column)) / 2
    uniform = pool_weights(loss, mask, pool="mean", axis=1)
    return _reduced(jnp.sum(uniform * loss, axis=1), mask.any(1), reduction, axis_name)


def _own(s, axis_name):
    """[b,C]: which captions belong to this device's clips."""
    (b, C), devices = s.shape[:2], collectives.devices(axis_name)
    if b * devices != C:
        clips = f"{b}" if axis_name is None else f"{b} on each of {devices} devices"
        raise ValueError(
            f"clip i belongs to caption i, so B and C must be equal; got {clips} and {C}"
        )
    return collectives.matched_pairs(b, C, axis_name)


def _pairs(s, pairs, valid, axis_name):
    """The scores, the mask of scores that count, the mask of matched pairs, the valid clips, and
    how often each score counts (None for once).
    """
    s, pairs, own, known, counts = _whole(s, pairs, axis_name)
    valid = both(known, valid)
    if valid is None:
        return s, pairs, own, jnp.ones(len(s), bool), counts
    return s, pairs & valid[:, None] & all_gather(valid, axis_name)[None], own, valid, counts


def _pairs_of_bags(s, pairs, valid, mask, axis_name):
    """As ``_pairs`` for s [b,C,J]; also returns the mask of the candidates of this device's
    captions that count.
    """
    values, pairs, own, known, counts = _whole(s, pairs, axis_name)
    mask = _with_mask(s, mask)
    valid = both(both(known, valid), mask.any(1))
    mask &= valid[:, None]
    pairs = (pairs & valid[:, None])[:, :, None] & all_gather(mask, axis_name)[None]
    counts = counts if counts is None else counts[:, :, None]
    return values, pairs, own[:, :, None], valid, mask, counts


def _whole(s, pairs, axis_name):
    """The array of scores [b,C,...], the masks of pairs that count and of matched pairs, the valid
    clips by the masks of ``Scores``, and how often each score counts.
    """
    given = Scores.of(s)
    # Before ``valid``, since it refuses scores that cannot be contrasted.
    s, compared, counts = given.of_all_captions(axis_name)
    known = given.valid
    own = _own(s, axis_name)
    if pairs is not None and pairs.shape != own.shape:
        raise ValueError(
            f"pairs must be [b,C] with b, C = {own.shape[0]}, {own.shape[1]}; got {pairs.shape}"
        )
    if compared is not None:
        known = both(known, (compared & own).any(1))
    pairs = both(compared, pairs)
    return s, jnp.ones(own.shape, bool) if pairs is None else pairs | own, own, known, counts


def _with_mask(s, mask):
    """The mask of valid candidates of each bag, [b,J]."""
    s = Scores.of(s)
    mask = both(s.y_valid, mask)
    return jnp.ones((len(s.values), s.values.shape[2]), bool) if mask is None else mask


def _narrated(phrase_ids, mask, axis_name):
    """[b,C,P]: whether clip b has a phrase equal to phrase (c,p). Its own phrases are compared one
    by one, to save memory.
    """
    others = all_gather(phrase_ids, axis_name)

    def compare(found, own_phrase):
        ids, valid = own_phrase
        return found | (valid[:, None, None] & (ids[:, None, None] == others[None])), None

    nothing = jnp.zeros((len(phrase_ids), *others.shape), bool)
    nothing, *own_phrases = collectives.varying_alike((nothing, phrase_ids.T, mask.T))
    return jax.lax.scan(compare, nothing, tuple(own_phrases))[0]


def _matched(s, own, axis=1):
    """The scores of matched pairs. A masked sum, since XLA moves s between devices to gather the
    diagonal.
    """
    return jnp.sum(jnp.where(own, s, 0), axis)


def _logits(s, taking_part, temperature):
    dtype = accumulation_dtype(s.dtype)
    return jnp.where(taking_part, s.astype(dtype), 0) / jnp.asarray(temperature, dtype)


def _counted(logits, counts, negatives):
    """Logits to which log(count) is added for negatives, so that each counts ``counts`` times in a
    sum of exponentials.
    """
    if counts is None:
        return logits
    return logits + jnp.log(jnp.where(negatives, counts, 1).astype(logits.dtype))


def _log_sum_exp(logits, taking_part, axis):
    return jax.nn.logsumexp(jnp.where(taking_part, logits, _NEVER), axis=axis)


def _log_sum_exp_of_column(logits, taking_part, axis, axis_name):
    """The log-sum-exp over the clips of all devices, for this device's captions."""
    of_devices = collectives.all_to_all(_log_sum_exp(logits, taking_part, axis), axis_name)
    return jax.nn.logsumexp(of_devices, axis=0)


def _contrast(positive, negatives, count=1):
    """−log( e^positive / (count · e^positive + e^negatives) )"""
    return jnp.logaddexp(negatives - positive, math.log(count))


def _with_noise(directions, logits, noise_rate):
    """The losses −log p of both directions, which ``directions`` computes from logits, with
    ``noise_rate`` as the module says.
    """
    losses = directions(logits)
    if noise_rate is None:
        return losses
    rate = jnp.asarray(noise_rate, logits.dtype)
    right, wrong = jnp.log1p(-rate), jnp.log(rate)
    # With equal scores the loss is log M.
    guesses = directions(jnp.zeros_like(logits))
    return tuple(
        -jnp.logaddexp(right - loss, wrong - guess)
        for loss, guess in zip(losses, guesses, strict=True)
    )


def _unit(vectors):
    """Vectors scaled to length 1; a zero vector stays zero, with gradient zero."""
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    zero = squared < jnp.finfo(vectors.dtype).tiny
    return jnp.where(zero, 0, vectors / jnp.sqrt(jnp.where(zero, 1, squared)))


def _reduced(loss, valid, reduction, axis_name):
    check_choice("reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return jnp.where(valid, loss, 0)
    return mean_of_valid(loss, valid, axis_name)
