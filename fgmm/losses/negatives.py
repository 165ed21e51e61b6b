"""Which captions or phrases a clip is compared with, so that its cost does not grow with the batch.

Fine scores of all pairs cost b·C·N·P products per device, and C grows with the devices. Coarse
scores S[b,c], one product each, say which pairs are worth a fine score::

    S = clip_similarity(clips[:, None], captions[:, None], pool="mean")
    candidates = hardest_candidates(S, k=64, temperature=0.07)
    loss = info_nce(clip_similarity(x, y, candidates=candidates, ...), temperature=0.07)

A clip's own caption is the first of its k candidates. A caption is never chosen if it or its
clip has no valid entry. If fewer than k captions are valid, the remaining
slots hold numbers of C or more, which mean no caption. Of equal scores the lower number is chosen.
No gradient flows through a choice. Everything is computed in float32 or wider.

With ``axis_name``, scores are this device's rows [b,C] against all captions, and candidates are
numbered over all devices.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, ScalarLike

from fgmm.losses.arguments import jitted
from fgmm.losses.collectives import (
    AxisName,
    accumulation_dtype,
    all_gather,
    all_to_all,
    devices,
    first_clip,
    matched_pairs,
)
from fgmm.losses.scores import Scores

# The least φ − κ, at which π is 2e-35: a draw is never less likely.
_LEAST = -80.0


@jitted("k", "axis_name")
def hardest_candidates(
    scores: Scores | Float[Array, "b C"],
    *,
    k: int,
    temperature: ScalarLike,
    axis_name: AxisName = None,
) -> Int[Array, "b k"]:
    """Each clip's own caption and the k − 1 hardest others, half of them hard for either side.

    The first half (the larger half if k is even) has the highest S[b,c]: these captions are hard
    for the clip. The second half has, among the remaining captions, the highest
    S[b,c] − τ log Σ_b' e^{S[b',c]/τ}: for these captions the clip is hard among all clips.

    Choose so only with coarse scores that have learned. A clip's own caption is the one candidate
    that no score has chosen. While scores depend on captions more than on clips, a loss goes down
    by telling the chosen captions from others, whatever the clip shows (docs/losses.md, Negatives).

    Args:
      scores: coarse scores.
      k: candidates of a clip, its own caption included.
      temperature: τ, above 0, in the units of the scores.
      axis_name: see the module.

    Raises:
      ValueError: k is below 1 or above C.
    """
    S, allowed, own = _allowed(scores, k, axis_name)
    temperature = jnp.asarray(jax.lax.stop_gradient(temperature), S.dtype)
    by_row = jnp.where(allowed, S, -jnp.inf)
    first, found = _highest(jnp.where(own & allowed, jnp.inf, by_row), 1 + k // 2)
    columns = jax.nn.logsumexp(by_row / temperature, axis=0)
    columns = jax.nn.logsumexp(all_to_all(columns, axis_name), axis=0)
    # It is -inf for a caption that no clip may choose.
    columns = jnp.where(jnp.isfinite(columns), columns, 0)
    by_column = S - temperature * all_gather(columns, axis_name)[None]
    chosen = jnp.any(first[:, :, None] == jnp.arange(S.shape[1])[None, None], axis=1)
    second, found_second = _highest(
        jnp.where(allowed & ~chosen, by_column, -jnp.inf), k - first.shape[1]
    )
    candidates = jnp.concatenate([first, second], axis=1)
    return _or_nothing(candidates, jnp.concatenate([found, found_second], axis=1), S.shape[1])


@jitted("k", "axis_name")
def importance_candidates(
    scores: Scores | Float[Array, "b C"],
    *,
    k: int,
    temperature: ScalarLike,
    keys: Key[Array, "b"],
    axis_name: AxisName = None,
) -> tuple[Int[Array, "b k"], Float[Array, "b k"]]:
    """Each clip's own caption and k − 1 others, drawn without replacement by weights e^{S[b,c]/τ}.

    After Kool et al. 2019 (arXiv 1903.06059, section 4): with φ = S/τ, the captions with the k − 1
    highest φ + Gumbel noise are drawn. Given κ, the next highest value, a caption is among them
    with probability π = 1 − exp(−exp(φ − κ)). If each drawn caption counts 1/π times, sums over
    captions, and over the clips that drew a caption, are unbiased. Their logarithms are biased: too
    low on average.

    Args:
      scores, k, temperature, axis_name: as in ``hardest_candidates``.
      keys: a random key for each clip, as from ``clip_keys``.

    Returns:
      The candidates, and how often each counts: 1/π, or 1 for a clip's own caption.

    Raises:
      ValueError: k is below 1 or above C.
    """
    S, allowed, own = _allowed(scores, k, axis_name)
    C = S.shape[1]
    logits = S / jnp.asarray(jax.lax.stop_gradient(temperature), S.dtype)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (C,), S.dtype))(keys)
    perturbed = jnp.where(allowed & ~own, logits + noise, -jnp.inf)
    # A clip's own caption is at -inf here. So κ is -inf if all other captions are drawn.
    highest, drawn = jax.lax.top_k(perturbed, k)
    found, threshold = jnp.isfinite(highest[:, :-1]), highest[:, -1:]
    above = jnp.take_along_axis(logits, drawn[:, :-1], axis=1) - threshold
    above = jnp.where(found, jnp.maximum(above, _LEAST), jnp.inf)
    counts = -1 / jnp.expm1(-jnp.exp(above))
    own_caption = jnp.argmax(own, axis=1)[:, None]
    candidates = jnp.concatenate([own_caption, drawn[:, :-1]], axis=1)
    found = jnp.concatenate([jnp.any(own & allowed, axis=1)[:, None], found], axis=1)
    counts = jnp.concatenate([jnp.ones_like(threshold), counts], axis=1)
    return _or_nothing(candidates, found, C), counts


@jitted("m")
def sampled_phrases(
    mask: Bool[Array, "c P"], *, m: int, keys: Key[Array, "c"]
) -> Int[Array, "c m"]:
    """m of the valid phrases of each caption, without replacement, each equally likely.

    Args:
      mask: which phrases are valid.
      m: how many. If a caption has fewer valid phrases, all of them, and masked ones for the rest.
      keys: a random key for each caption, as from ``clip_keys``.

    Returns:
      The numbers of the phrases, from 0 to P − 1.

    Raises:
      ValueError: m is below 1 or above P.
    """
    P = mask.shape[1]
    if not 1 <= m <= P:
        raise ValueError(f"sampled phrases must be from 1 to the {P} of a caption; got {m}")
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (P,)))(keys)
    return jax.lax.top_k(jnp.where(mask, drawn, -1), m)[1]


def clip_keys(key: PRNGKeyArray, clips: int, axis_name: AxisName = None) -> Key[Array, "b"]:
    """A random key for each of this device's clips: ``key`` folded with the clip's number over all
    devices.
    """
    numbers = first_clip(clips, axis_name) + jnp.arange(clips)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def check_candidates(k: int, captions: int) -> None:
    """Raises a ValueError unless k is from 1 to ``captions``."""
    if not 1 <= k <= captions:
        raise ValueError(f"candidates must be from 1 to the {captions} captions; got {k}")


def _allowed(scores, k, axis_name):
    """Coarse scores without gradient, the mask of pairs that may be compared, and the mask of
    matched pairs.
    """
    known = Scores.of(scores)
    S = jax.lax.stop_gradient(known.values)
    S = S.astype(accumulation_dtype(S.dtype))
    b, C = S.shape
    check_candidates(k, C)
    if b * devices(axis_name) != C:
        raise ValueError(f"clip i belongs to caption i; got scores {S.shape}")
    valid = jnp.ones(b, bool) if known.valid is None else known.valid
    allowed = valid[:, None] & all_gather(valid, axis_name)[None]
    return S, allowed, matched_pairs(b, C, axis_name)


def _highest(scores, count):
    """The numbers of the highest scores, and which of these scores are above -inf."""
    values, numbers = jax.lax.top_k(scores, count)
    return numbers, values > -jnp.inf


def _or_nothing(candidates, found, captions):
    nothing = captions + jnp.arange(candidates.shape[1], dtype=candidates.dtype)[None]
    return jnp.where(found, candidates, nothing).astype(jnp.int32)
