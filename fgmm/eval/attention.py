"""Where phrases look in their clip: maps over the cells of its feature map.

There are two kinds of map, one for each level of the objective's terms:

- ``attention``, of a fine term: the similarity of local embeddings and phrase embeddings, and the
  weights of the cells by the term's own attention (``Term.attention``). A fine term that defines no
  attention has no map.
- ``cam``, of a coarse term, which trains no local embeddings: the class activation map of Zhou et
  al., CVPR 2016 (arXiv 1512.04150), the contribution of each cell to the coarse score of clip and
  phrase. The coarse projection is applied to the feature of each cell, and to each phrase as if it
  were the whole caption. Under the pool ``max``, a cell counts in the channels in which it attains
  the maximum. The map is exact for a linear head. It is an approximation for a head with a hidden
  layer, and for the pool ``own``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fgmm.config import Config, ConfigError
from fgmm.data.pipeline import Assembler
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses import Side, gate_weights
from fgmm.losses.objective import PAIRS
from fgmm.models.embeddings import AnyArray, Tokens
from fgmm.models.heads import Route, pooled, segmented

KINDS = {"fine": "attention", "coarse": "cam"}


@flax.struct.dataclass
class Maps:
    """Maps of phrases over their own clips. For ``video_audio``, segments of sound are the phrases.

    Attributes:
      similarity: of each phrase to each cell. Its maximum is the peak of the map. The weights have
        the same peak, unless the pool gives all cells the same weight.
      weights: attention of each phrase. They sum to 1 over the cells, or are all 0. For a ``cam``,
        the positive part of the similarity, divided by its sum.
      score: the similarity of phrase and clip, pooled over the cells. For a ``cam``, the mean over
        the cells; where the map is exact, this is the product of the coarse embeddings.
      mask: which phrases are valid.
      phrase_gates: logits of the learned weights of phrases; None if the term uses none.
      cell_gates: learned weights of cells, which do not depend on the phrase and sum to 1 over the
        cells; None if the term uses none.
    """

    similarity: Float[AnyArray, "B K P *grid"]
    weights: Float[AnyArray, "B K P *grid"]
    score: Float[AnyArray, "B K P"]
    mask: Bool[AnyArray, "B K P"]
    phrase_gates: Float[AnyArray, "B K P"] | None = None
    cell_gates: Float[AnyArray, "B *grid"] | None = None


def terms(experiment: Experiment, pair: str, term: str = "") -> dict[str, str]:
    """The name of the term on a pair for each kind of map; a kind without a term is left out.

    Args:
      experiment: of the checkpoint.
      pair: such as ``"video_text"``.
      term: the only term to consider; empty for the first of each level.

    Raises:
      ConfigError: the objective has no term on the pair, or none of that name.
    """
    found: dict[str, str] = {}
    silent = terms_without_map(experiment, pair, term)
    for name in on_pair(experiment, pair, term):
        if name not in silent:
            found.setdefault(KINDS[experiment.objective.terms[name].level], name)
    return dict(sorted(found.items()))


def terms_without_map(experiment: Experiment, pair: str, term: str = "") -> list[str]:
    """The names of the fine terms on a pair that define no attention, so that they have no map.

    Args and errors are those of ``terms``.
    """
    entries = {name: experiment.objective.terms[name] for name in on_pair(experiment, pair, term)}
    return [
        name
        for name, entry in entries.items()
        if entry.level == "fine" and entry.term.attention(entry.term.init()) is None
    ]


def on_pair(experiment: Experiment, pair: str, term: str = "") -> list[str]:
    """The names of the terms on a pair.

    Args and errors are those of ``terms``.
    """
    entries = experiment.objective.compared
    found = [name for name, entry in entries.items() if entry.pair == pair]
    if not found:
        there = ", ".join(sorted({entry.pair for entry in entries.values()})) or "none"
        raise ConfigError(f"the checkpoint was trained without a term on {pair}; it has {there}")
    if term and term not in found:
        raise ConfigError(f"term={term!r} is no term on {pair}; allowed: {', '.join(found)}")
    return [term] if term else found


def grounded(experiment: Experiment, entry: Config, *, captions: int, key: str) -> Assembler:
    """The assembler, without sound, of a corpus that knows what its phrases refer to.

    Captions are not joined, since a joined caption may have more phrases than fit.

    Args:
      experiment: of the checkpoint.
      entry: the corpus, as in ``config.data.source``.
      captions: the most captions of a clip; the first ones are taken.
      key: place of ``entry`` in the config, for errors.

    Raises:
      ConfigError: the corpus cannot be opened, or does not know what any phrase refers to.
    """
    source = experiment.source(entry, key)
    if not any(source[record].grounding for record in range(len(source))):
        raise ConfigError(f"{key}: no clip of {entry['name']!r} knows what its phrases refer to")
    assembler = experiment.assembler(source, captions=captions, samples=0)
    return dataclasses.replace(assembler, join_captions=False)


def maps(
    experiment: Experiment, names: Sequence[str]
) -> Callable[[TrainState, Mapping[str, Array | np.ndarray]], dict[str, Maps]]:
    """A jitted function of a train state and a batch to the maps of some terms, by name.

    Nothing is augmented. The batch must hold both modalities of every term's pair.

    Args:
      experiment: of the checkpoint.
      names: of terms of the objective that have a map, as ``terms`` finds them.
    """
    names = tuple(names)

    def within_model(model, inputs, parameters):
        encoded = model.encode(inputs)
        if "audio" in encoded:
            encoded["audio_segments"] = segmented(encoded["audio"], model.phrases)
        return {name: term_maps(model, encoded, parameters[name], name) for name in names}

    def term_maps(model, encoded, parameters, name):
        entry = experiment.objective.terms[name]
        clip, said = (encoded[modality] for modality in PAIRS[entry.pair])
        # Segments of sound share the route of audio.
        of_clip, of_said = (model.route(entry.space, m) for m in entry.pair.split("_"))
        phrases, gated = (len(clip.local), *said.grid), entry.term.gated_sides
        phrase_gates = cell_gates = None
        if entry.level == "fine":
            found = of_clip(clip.local, clip.mask), of_said(said.local, said.mask)
            x, y = (embeddings.local for embeddings in found)
            if "x" in gated:
                cell_gates = gate_weights(found[0].gates, clip.mask).reshape(-1, *clip.grid)
            if "y" in gated:
                phrase_gates = found[1].gates.reshape(phrases)
        else:
            x = of_clip.coarse(_shares(clip, of_clip))
            whole = of_clip.coarse(of_clip.pooled(clip.local, clip.mask, clip.coarse))
            length = jnp.linalg.norm(whole, axis=-1)[:, None, None]
            x = x / jnp.where(length > 0, length, 1) if of_clip.unit_length else x
            y = of_said.scaled(of_said.coarse(said.local))
        a = jnp.einsum("bnd,bpd->bpn", x, y, preferred_element_type=jnp.float32)
        if entry.level == "fine":
            attention = entry.term.attention(parameters)
            weights, score = attention(Side(x, clip.mask), Side(y, said.mask))
            weights = jnp.swapaxes(weights, 1, 2)
        else:
            weights = _positive_shares(jnp.where(clip.mask[:, None, :], a, 0))
            score = a.mean(axis=2)
        grid = (*phrases, *clip.grid)
        return Maps(
            similarity=a.reshape(grid),
            weights=jnp.where(said.mask[:, :, None], weights, 0).reshape(grid),
            score=score.reshape(phrases),
            mask=(said.mask & clip.mask.any(axis=1, keepdims=True)).reshape(phrases),
            phrase_gates=phrase_gates,
            cell_gates=cell_gates,
        )

    @jax.jit
    def look(params, statistics, batch):
        variables = {"params": params["model"], **statistics}
        inputs = experiment.transforms(batch)
        return experiment.apply(
            variables, inputs, params["objective"], method=lambda *args: within_model(*args)
        )

    return lambda state, batch: look(state.params, state.statistics, batch)


def maps_by_way(
    experiment: Experiment, terms: Mapping[str, str]
) -> Callable[[Mapping[str, TrainState], Mapping[str, Array | np.ndarray]], dict[str, Maps]]:
    """A function of ``beside_untrained`` states and a batch to maps by *way*: the prefix of the
    state and the kind of map, such as ``"untrained_attention"``.

    Args:
      experiment: of the checkpoint.
      terms: as ``terms`` finds them.
    """
    look = maps(experiment, tuple(terms.values()))

    def compute(states, batch):
        ways = {}
        for prefix, state in states.items():
            of_state = look(state, batch)
            ways |= {prefix + kind: of_state[term] for kind, term in terms.items()}
        return ways

    return compute


def beside_untrained(experiment: Experiment, state: TrainState) -> dict[str, TrainState]:
    """A state and that of the network before its first step, by the prefixes of their ways."""
    # Sharded like the trained state, so that one compiled program serves both.
    devices = jax.tree.leaves(state)[0].sharding
    return {"": state, "untrained_": experiment.initial_state(devices).with_weights()}


def _positive_shares(a: Float[Array, "B P N"]) -> Float[Array, "B P N"]:
    positive = jnp.maximum(a, 0)
    total = positive.sum(axis=2, keepdims=True)
    return positive / jnp.where(total > 0, total, 1)


def _shares(clip: Tokens, route: Route) -> Float[Array, "B N E"]:
    """Features times their share in the pooled feature, times N; their mean is the pooled feature.

    The share is, by pool: for ``mean`` the same for all valid cells; for ``max`` above 0 only where
    a cell attains the maximum of a channel; for ``gate`` the weight of the cell. The encoder's own
    feature (``own``) is no sum over cells, so the features of the cells are returned unchanged.
    """
    if route.pool == "own":
        return clip.local
    gates = route.pool_gate(clip.local) if route.pool == "gate" else None
    share = jax.grad(lambda x: pooled(x, clip.mask, route.pool, gates).sum())(clip.local)
    return clip.local * share * clip.local.shape[1]
