"""Similarity of clips and phrases, pooled from the similarities of their local embeddings.

Results are ``scores.Scores``: values with their masks, so that the losses of ``contrastive`` leave
out masked entries.

With x [B,N,D] the local embeddings of clips and y [C,P,D] the phrase embeddings of captions, the
local similarities are a[b,c,n,p] = <x_bn, y_cp>. They are pooled over n into s[b,c,p], one number
for each clip and phrase, and over p as well into S[b,c], one for each clip and caption. Embeddings
are used as they are: for cosines, pass vectors of unit length.

Three implementations compute the same. ``dense`` is the definition: a is held in memory, B·C·N·P
numbers, and derivatives are JAX's, of any order and mode. ``blockwise`` computes a in blocks and
has its own backward pass: memory grows with B·N·D + C·P·D + B·C·P. It supports reverse mode only;
forward mode raises a TypeError, for which ``implementation='dense'`` is the remedy at any size.
``kernel`` needs as little memory. It is limited to NVIDIA's Hopper devices, pools softmax and
logsumexp in direction y_to_x, bfloat16 and first derivatives (``kernels.hopper``), and is used only
on request.

Clips and captions come in one of these layouts:

================ ========== ======== ============================================================
layout           y          s        clip b is compared with
================ ========== ======== ============================================================
all pairs        [C,P,D]    [B,C,P]  every caption
candidates       [C,P,D]    [B,K,P]  K captions of y, with the numbers candidates[b]
given candidates [B,K,P,D]  [B,K,P]  K captions of its own, such as mined negatives
matched pairs    [B,P,D]    [B,P]    caption b: ``matched_similarity``
================ ========== ======== ============================================================

Within a ``shard_map`` or ``pmap``, with ``axis_name``, a device passes its own clips x [b,N,D] and
its own captions y [c,P,D]. It gets the rows of its own clips against the captions of all devices, C
= c · devices, in the order of ``axis_index``. Without ``axis_name``, b is B and c is C. Candidates
are numbered over all devices; given candidates and matched pairs are on one device and need no
``axis_name``. The module ``exchange`` describes how captions are sent, ``sharded`` how gradients
are summed. Arrays sharded by ``jit`` alone give the right results, but XLA gathers both sides for
``blockwise``: wrap the loss in ``sharded.sharded``.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from fgmm.losses import blockwise, dense
from fgmm.losses.arguments import jitted
from fgmm.losses.collectives import AxisName, accumulation_dtype, all_gather, devices
from fgmm.losses.dense import check_pool, pool_weights, pooled
from fgmm.losses.exchange import EXCHANGES, all_captions, with_all_captions
from fgmm.losses.kernels import hopper
from fgmm.losses.options import check_choice
from fgmm.losses.pools import Pooling
from fgmm.losses.scores import Scores

DIRECTIONS = ("y_to_x", "x_to_y", "symmetric")
WEIGHTINGS = ("uniform", "softmax")

# Up to so many bytes of a, dense is chosen: it is as fast there, and has all derivatives.
_DENSE_BYTES = 256 << 10

# A weighting of phrases is one more pool, of s over p.
_POOL_OF_WEIGHTING = {"uniform": "mean", "softmax": "softmax"}


@jitted("pool", "implementation", "block", "precision", "axis_name", "exchange")
def pooled_similarity(
    x: Float[Array, "b N D"],
    y: Float[Array, "c P D"] | Float[Array, "b K P D"],
    x_mask: Bool[Array, "b N"] | None = None,
    y_mask: Bool[Array, "c P"] | Bool[Array, "b K P"] | None = None,
    *,
    pool: str,
    temperature: ScalarLike | None = None,
    candidates: Int[Array, "b K"] | None = None,
    implementation: str | None = None,
    block: tuple[int, int] | None = None,
    precision: jax.lax.PrecisionLike = None,
    axis_name: AxisName = None,
    exchange: str = "gather",
) -> Scores:
    """s[b,c,p]: the similarities of clip b's local embeddings to phrase (c,p), pooled over n.

    With a_n = <x_bn, y_cp>, n running over the valid entries of clip b:

    =========== ==================================================================================
    pool        s
    =========== ==================================================================================
    softmax     Σ_n w_n a_n with w = softmax_n(a / temperature)
    logsumexp   temperature · log mean_n exp(a / temperature)
    max         max_n a_n: late interaction (FILIP, arXiv 2111.07783; ColBERT, arXiv 2004.12832);
                ties share the gradient
    mean        mean_n a_n
    sparc       Σ_n w_n a_n with the weights of SPARC (arXiv 2401.09865, section 2): a min-max
                normalised over n, set to 0 below 1/N (N the number of valid entries), divided by
                its sum; uniform where all a_n are equal
    =========== ==================================================================================

    Args:
      x, y: local embeddings of clips, phrase embeddings of captions.
      x_mask, y_mask: which of them are valid; None means all. A masked entry has no influence,
        whatever its values, and no gradient.
      pool: one of the above.
      temperature: of softmax and logsumexp, above 0, in the units of a; the others have none.
      candidates: the captions that each clip is compared with; None for all. A slot is empty, with
        s = 0 and no gradient, if its number is outside 0..C−1 or repeats an earlier one of the
        clip.
      implementation: 'dense', 'blockwise', 'kernel', or None for dense where a is at most 256 KiB,
        else for blockwise.
      block: how many clips and how many captions blockwise takes at a time; None for a choice by
        shape, such that a block of a stays in cache.
      precision: of the products, as in ``jax.lax.dot``.
      axis_name: the mapped axis, or axes, over which clips are sharded; None for a single device.
      exchange: how embeddings are sent between devices, 'gather' or 'ring'; see ``exchange``.

    Returns:
      s as the ``values`` of ``Scores``, [b,C,P] in float32 or wider, or [b,K,P] of candidates. It
      is 0 for a masked phrase and for a clip with nothing valid.

    Raises:
      ValueError: an array is not as annotated, an option is unknown, a temperature is missing or
        the pool has none, a block is given for another implementation than blockwise, kernel does
        not support an argument, or ``candidates`` are combined with y [b,K,P,D] or with 'ring'.
      TypeError: a forward-mode derivative of another implementation than dense.
    """
    check_pool(pool, temperature)
    pooling = Pooling(pool, y_to_x=True, weights=None, precision=precision)
    captions = _Captions.of(y, y_mask, None, candidates, axis_name)
    s, _ = _similarities(
        *(x, x_mask, captions, temperature, None),
        *(pooling, implementation, block, exchange),
    )
    return captions.scores(s, None if x_mask is None else x_mask.any(1), y_mask)


@jitted("pool", "implementation", "precision")
def matched_similarity(
    x: Float[Array, "b N D"],
    y: Float[Array, "b P D"],
    x_mask: Bool[Array, "b N"] | None = None,
    y_mask: Bool[Array, "b P"] | None = None,
    *,
    pool: str,
    temperature: ScalarLike | None = None,
    implementation: str | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "b P"]:
    """s[b,b,p]: the similarities of clip b's local embeddings to the phrases of its own caption.

    Arguments and errors as in ``pooled_similarity``. Nothing is compared with another clip, so it
    is the same on one device and on many.
    """
    y_mask = y_mask if y_mask is None else y_mask[:, None]
    options = {"implementation": implementation, "precision": precision}
    return pooled_similarity(
        x, y[:, None], x_mask, y_mask, pool=pool, temperature=temperature, **options
    ).values[:, 0]


@jitted(
    *("pool", "direction", "weighting"),
    *("implementation", "block", "precision", "axis_name", "exchange"),
)
def clip_similarity(
    x: Float[Array, "b N D"],
    y: Float[Array, "c P D"] | Float[Array, "b K P D"],
    x_mask: Bool[Array, "b N"] | None = None,
    y_mask: Bool[Array, "c P"] | Bool[Array, "b K P"] | None = None,
    *,
    pool: str,
    temperature: ScalarLike | None = None,
    direction: str = "y_to_x",
    weighting: str = "uniform",
    phrase_temperature: ScalarLike | None = None,
    x_gate: Float[Array, "b N"] | None = None,
    y_gate: Float[Array, "c P"] | Float[Array, "b K P"] | None = None,
    candidates: Int[Array, "b K"] | None = None,
    implementation: str | None = None,
    block: tuple[int, int] | None = None,
    precision: jax.lax.PrecisionLike = None,
    axis_name: AxisName = None,
    exchange: str = "gather",
) -> Scores:
    """S[b,c]: the similarity of clip b and caption c.

    ``y_to_x``: every phrase attends over the clip, s[b,c,p] = pool_n a[b,c,n,p], and
    S = Σ_p β_p s[b,c,p]. ``x_to_y``, its mirror image: every local embedding attends over the
    caption, t[b,c,n] = pool_p a[b,c,n,p], and S = Σ_n β_n t[b,c,n]. ``symmetric``: their mean.

    The weights β are uniform over valid entries, or softmax(s / phrase_temperature) within the
    scored pair. So a score depends on clip b and caption c only, whether they match or not.

    If a side has a gate, its weights are ``gate_weights`` instead, which do not depend on the other
    side: β_cp = softmax_p(y_gate) of phrases, γ_bn = softmax_n(x_gate) of local embeddings, and

        S[b,c] = ½ (Σ_p β_cp s[b,c,p] + Σ_n γ_bn t[b,c,n])

    for ``symmetric``: the weighted token-wise interaction of DRL (Wang et al. 2022, arXiv
    2203.07111, section 3.2), which pools by 'max'. A gate of zeros leaves weights uniform.

    Args:
      x, y, x_mask, y_mask, pool, temperature: as in ``pooled_similarity``.
      direction: 'y_to_x', 'x_to_y' or 'symmetric'.
      weighting: weights of a side without a gate, 'uniform' or 'softmax': of phrases over p, and in
        the mirrored direction of local embeddings over n.
      phrase_temperature: of softmax weights, above 0; None for uniform ones.
      x_gate, y_gate: logits of the weights of local embeddings and of phrases; None for no gate.
      candidates: as in ``pooled_similarity``.
      implementation, block, precision, axis_name, exchange: as in ``pooled_similarity``.

    Returns:
      S as the ``values`` of ``Scores``, [b,C] in float32 or wider, or [b,K] of candidates; 0 where
      either side has nothing valid.

    Raises:
      ValueError, TypeError: as in ``pooled_similarity``. Also a ValueError for a gate of a side
        that the direction does not weigh, and for softmax weights if every weighed side has a gate.
    """
    check_pool(pool, temperature)
    _check_weights(direction, weighting, phrase_temperature, x_gate, y_gate)
    over_phrases = _POOL_OF_WEIGHTING[weighting]
    over_cells = over_phrases if x_gate is None else "given"
    pooling = Pooling(
        pool,
        y_to_x=direction != "x_to_y",
        weights=over_cells if direction != "y_to_x" else None,
        precision=precision,
        weighs_phrases=y_gate is not None,
    )
    captions = _Captions.of(y, y_mask, y_gate, candidates, axis_name)
    s, mirrored = _similarities(
        *(x, x_mask, captions, temperature, phrase_temperature),
        *(pooling, implementation, block, exchange),
        x_weights=None if x_gate is None else gate_weights(x_gate, x_mask),
    )
    if s is not None and not pooling.weighs_phrases:
        mask = jnp.ones(s.shape, bool)
        if captions.mask is not None:
            mask &= captions.mask_of_pairs()
        if x_mask is not None:
            mask &= x_mask.any(1)[:, None, None]
        s = pooled(s, mask, pool=over_phrases, temperature=phrase_temperature, axis=2)
    S = mirrored if s is None else s if mirrored is None else (s + mirrored) / 2
    x_valid, y_valid = (None if mask is None else mask.any(-1) for mask in (x_mask, y_mask))
    return captions.scores(S, x_valid, y_valid)


def _check_weights(direction, weighting, phrase_temperature, x_gate, y_gate):
    check_choice("direction", direction, DIRECTIONS)
    check_choice("weighting", weighting, WEIGHTINGS)
    if weighting == "softmax" and phrase_temperature is None:
        raise ValueError("weighting 'softmax' needs a phrase_temperature above 0; got None")
    if weighting == "uniform" and phrase_temperature is not None:
        raise ValueError("weighting 'uniform' has no temperature; leave phrase_temperature out")
    if x_gate is not None and direction == "y_to_x":
        raise ValueError("x_gate needs direction 'x_to_y' or 'symmetric'; got 'y_to_x'")
    if y_gate is not None and direction == "x_to_y":
        raise ValueError("y_gate needs direction 'y_to_x' or 'symmetric'; got 'x_to_y'")
    sides = {"y_to_x": 1, "x_to_y": 1, "symmetric": 2}[direction]
    gates = (x_gate is not None) + (y_gate is not None)
    if weighting == "softmax" and gates == sides:
        raise ValueError(
            "weighting 'softmax' has no effect: every weighed side has a gate; leave weighting out"
        )


@jitted()
def gate_weights(
    gate: Float[Array, "*rest N"], mask: Bool[Array, "*rest N"] | None = None
) -> Float[Array, "*rest N"]:
    """softmax of a gate's logits over the valid entries of the last axis, in float32 or wider.

    The weights sum to 1, or are all 0 where nothing is valid. A single valid entry has weight 1,
    whatever its logit, and the logit has gradient 0.
    """
    gate = gate.astype(accumulation_dtype(gate.dtype))
    mask = jnp.ones(gate.shape, bool) if mask is None else mask
    return pool_weights(gate, mask, pool="softmax", temperature=1, axis=-1)


@jitted("pool", "precision")
def attention_weights(
    x: Float[Array, "B N D"],
    y: Float[Array, "C P D"],
    x_mask: Bool[Array, "B N"] | None = None,
    y_mask: Bool[Array, "C P"] | None = None,
    *,
    pool: str,
    temperature: ScalarLike | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "B C N P"]:
    """The attention of phrase (c,p) in clip b: the weights over n in ``pooled_similarity``.

    They sum to 1 over n, or are all 0 where nothing is valid. For logsumexp they are
    softmax_n(a / temperature), for max an equal share for each maximum: the derivative ∂s/∂a_n.
    Arguments and errors as in ``pooled_similarity``.
    """
    check_pool(pool, temperature)
    a, mask = dense.local_similarities(x, y, x_mask, y_mask, precision)
    return pool_weights(a, mask, pool=pool, temperature=temperature, axis=2)


class _Captions(NamedTuple):
    """The captions of a layout.

    Attributes:
      y, weights: this device's phrase embeddings [c,P,D] and the weights of their gate [c,P].
      mask: mask of the captions of all devices [C,P].
      candidates: the captions of each clip [b,K], numbered over all devices, none of them twice; C
        or more for an empty slot. None for all captions.
      given: whether y was [b,K,P,D], candidates of one clip each, and is flattened here.
      axis_name: the mapped axis over which captions are sharded; None for one device.
    """

    y: Float[Array, "c P D"]
    weights: Float[Array, "c P"] | None
    mask: Bool[Array, "C P"] | None
    candidates: Int[Array, "b K"] | None
    given: bool
    axis_name: AxisName

    @classmethod
    def of(cls, y, y_mask, y_gate, candidates, axis_name):
        for name, of_phrases in (("y_mask", y_mask), ("y_gate", y_gate)):
            if of_phrases is not None and of_phrases.shape != y.shape[:-1]:
                axes = "[b,K,P]" if y.ndim == 4 else "[c,P]"
                raise ValueError(
                    f"{name} must have the first axes of y, {axes} = {y.shape[:-1]}; got shape "
                    f"{of_phrases.shape}"
                )
        weights = None if y_gate is None else gate_weights(y_gate, y_mask)
        if y.ndim == 3:
            mask = all_gather(y_mask, axis_name)
            if candidates is not None:
                candidates = _distinct(candidates, len(y) * devices(axis_name))
            return cls(y, weights, mask, candidates, False, axis_name)
        if candidates is not None:
            raise ValueError(
                f"candidates are numbers of captions y [c,P,D]; got y of shape {y.shape}, which "
                "are candidates themselves"
            )
        b, K = y.shape[:2]
        flat = (v if v is None else v.reshape(b * K, *v.shape[2:]) for v in (y, weights, y_mask))
        return cls(*flat, jnp.arange(b * K, dtype=jnp.int32).reshape(b, K), True, None)

    def mask_of_pairs(self):
        """Which phrases of each pair are valid, [1,C,P] or [b,K,P]."""
        if self.candidates is None:
            return self.mask[None]
        return self.mask.at[self.candidates].get(mode="fill", fill_value=False)

    def scores(self, values, x_valid, y_valid):
        if self.given:
            valid = jnp.ones(values.shape, bool) if y_valid is None else y_valid
            return Scores(values, x_valid, valid)
        return Scores(values, x_valid, y_valid, self.candidates)


def _distinct(candidates, captions):
    """Candidates with repeated and invalid numbers replaced by numbers from ``captions`` on."""
    candidates = candidates.astype(jnp.int32)
    order = jnp.argsort(candidates, axis=1, stable=True)
    ordered = jnp.take_along_axis(candidates, order, axis=1)
    again = jnp.pad(ordered[:, 1:] == ordered[:, :-1], ((0, 0), (1, 0)))
    again = jnp.take_along_axis(again, jnp.argsort(order, axis=1), axis=1)
    some = (candidates >= 0) & (candidates < captions) & ~again
    nothing = captions + jnp.arange(candidates.shape[1], dtype=jnp.int32)[None]
    return jnp.where(some, candidates, nothing)


def _similarities(
    x,
    x_mask,
    captions,
    temperature,
    weights_temperature,
    pooling,
    implementation,
    block,
    exchange,
    *,
    x_weights=None,
):
    """s and S of ``blockwise.similarities`` for captions of any layout.

    If both would be [b,C], the result is None and their mean.
    """
    if block is not None and not (len(block) == 2 and min(block) >= 1):
        raise ValueError(f"block must be two numbers of at least 1; got {block}")
    if implementation is not None:
        check_choice("implementation", implementation, tuple(IMPLEMENTATIONS))
    candidates, axis_name = captions.candidates, captions.axis_name
    if candidates is not None and implementation == "kernel":
        raise ValueError(
            "candidates need implementation 'blockwise', 'dense' or None; got 'kernel'"
        )

    def compute(operands, x_mask, y_mask):
        x, y = operands["x"], operands["y"]
        chosen = implementation or (
            "blockwise" if block else choose_implementation(x, y, candidates)
        )
        others = ("temperature", "weights_temperature", "x_weights", "y_weights")
        some = {} if candidates is None else {"candidates": candidates}
        s, S = IMPLEMENTATIONS[chosen](
            *(x, y, x_mask, y_mask),
            *(operands.get(name) for name in others),
            **some,
            pooling=pooling,
            block=block,
        )
        # Two scores [b,c] are sent as one.
        return (None, (s + S) / 2) if pooling.weighs_phrases and S is not None else (s, S)

    y = captions.y
    dtype = accumulation_dtype(jnp.promote_types(x.dtype, y.dtype))
    scalars = {"temperature": temperature, "weights_temperature": weights_temperature}
    scalars = {name: jnp.asarray(t, dtype) for name, t in scalars.items() if t is not None}
    weights = {"x_weights": x_weights, "y_weights": captions.weights}
    weights = {name: v for name, v in weights.items() if v is not None}
    operands = {"x": x, "y": y, **weights, **scalars}
    if candidates is not None:
        check_choice("exchange", exchange, EXCHANGES)
        if exchange == "ring" and axis_name is not None:
            raise ValueError("candidates need exchange 'gather'; got 'ring'")
        return compute(all_captions(operands, axis_name), x_mask, captions.mask)
    by_phrase = pooling.y_to_x and not pooling.weighs_phrases
    return with_all_captions(
        *(compute, operands, x_mask, captions.mask),
        returned=y.shape[1] + (pooling.weights is not None) if by_phrase else 1,
        axis_name=axis_name,
        exchange=exchange,
    )


def choose_implementation(
    x: Float[Array, "B N D"],
    y: Float[Array, "C P D"],
    candidates: Int[Array, "B K"] | None = None,
) -> str:
    """The implementation that None stands for, by shapes and dtypes."""
    itemsize = max(x.dtype.itemsize, y.dtype.itemsize, 4)
    captions = len(y) if candidates is None else candidates.shape[1]
    size = math.prod(x.shape[:2]) * captions * y.shape[1] * itemsize
    return "dense" if size <= _DENSE_BYTES else "blockwise"


IMPLEMENTATIONS = {
    "dense": dense.similarities,
    "blockwise": blockwise.similarities,
    "kernel": hopper.similarities,
}
