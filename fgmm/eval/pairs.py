"""How two modalities are compared: in which space of the heads, and by which scores."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fgmm.config import ConfigError
from fgmm.experiment.build import Experiment
from fgmm.losses import Term
from fgmm.losses.term import Side
from fgmm.models.embeddings import AnyArray, Embeddings


def space_of(experiment: Experiment, pair: str, space: str, *, name: str) -> str:
    """The name of a space that has both sides of a pair.

    Args:
      experiment: of the checkpoint.
      pair: such as ``"video_text"``.
      space: name of the space; empty for the first that has both sides.
      name: of the evaluation, for the error.

    Raises:
      ConfigError: no space has both sides, or the named one does not.
    """
    sides = set(pair.split("_"))
    spaces = experiment.model.spaces
    allowed = [known for known, entry in spaces.items() if sides <= set(entry["modalities"])]
    if not allowed and not space:
        raise ConfigError(f"{name}: no space has both sides of {pair}")
    if space and space not in allowed:
        raise ConfigError(
            f"{name}: space={space!r} does not have both sides of {pair}; "
            f"allowed: {', '.join(allowed) or 'none'}"
        )
    return space or allowed[0]


def fine_term(experiment: Experiment, pair: str, space: str, term: str, *, name: str) -> str:
    """The name of the term whose similarity is the fine score; empty if there is no fine term.

    Args:
      experiment: of the checkpoint.
      pair: such as ``"video_text"``.
      space: as ``space_of`` returns it.
      term: name of the term; empty for the first fine term on the pair in that space.
      name: of the evaluation, for the error.

    Raises:
      ConfigError: ``term`` is no fine term on the pair in that space.
    """
    fine = terms(experiment, pair, "fine", space)
    if term and term not in fine:
        raise ConfigError(
            f"{name}: term={term!r} is no fine term on {pair} in space {space!r}; "
            f"allowed: {', '.join(fine) or 'none'}"
        )
    return term or (fine[0] if fine else "")


def terms(experiment: Experiment, pair: str, level: str, space: str) -> list[str]:
    """The names of the terms of a level on a pair in a space."""
    place = (pair, level, space)
    return [
        name
        for name, entry in experiment.objective.terms.items()
        if (entry.pair, entry.level, entry.space) == place
    ]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The scores of a pair, and which of them ranks.

    Attributes:
      experiment: of the checkpoint.
      pair: such as ``"video_text"``.
      fine, coarse: names of the terms of each level; empty where there is none.
    """

    experiment: Experiment
    pair: str
    fine: str
    coarse: str

    @classmethod
    def of(
        cls, experiment: Experiment, pair: str, space: str, term: str, *, name: str
    ) -> "Ranking":
        """The ranking of a pair; arguments are those of ``fine_term``.

        Raises:
          ConfigError: as ``fine_term``.
        """
        coarse = terms(experiment, pair, "coarse", space)
        fine = fine_term(experiment, pair, space, term, name=name)
        return cls(experiment, pair, fine, coarse[0] if coarse else "")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores, the one that ranks first.

        That is ``objective.score`` if the pair has the terms for it, otherwise the score of the
        only level trained.
        """
        found = [*(["fine"] if self.fine else []), "coarse"]
        if self.fine and self.coarse:
            found.insert(0, "sum")
        trained = [name for name in found if name != "coarse" or self.coarse or not self.fine]
        wanted = self.experiment.objective.score
        first = wanted if wanted in trained else trained[0]
        return first, *(name for name in found if name != first)

    def scores(
        self,
        parameters: Mapping[str, Any],
        coarse: Float[AnyArray, "*rest C"],
        fine: Float[AnyArray, "*rest C"] | None = None,
    ) -> dict[str, Float[AnyArray, "*rest C"]]:
        """All scores by name, from those of the two levels.

        Args:
          parameters: of the objective, by term.
          coarse: products of coarse embeddings.
          fine: similarities by the fine term; None only if there is no fine term.
        """
        found = {"coarse": coarse, "fine": fine}
        if "sum" in self.names:
            parts = ((self.fine, fine), (self.coarse, coarse))
            found["sum"] = sum(
                scores / self._temperature(term, parameters) for term, scores in parts
            )
        return {name: found[name] for name in self.names}

    def score_function(
        self, items: str, name: str = ""
    ) -> Callable[[Mapping[str, Any], Embeddings, Embeddings], Float[Array, "m Q"]]:
        """A jitted function of the objective's parameters, m items and Q queries to scores [m,Q].

        Items have local [m,N,D] and coarse [m,D] embeddings, queries [Q,P,D] and [Q,D], in any
        float dtype; they are cast to float32. For ``video_audio`` the audio side is its segments.

        Args:
          items: the modality of the items, one side of the pair.
          name: of the score; empty for the one that ranks.
        """
        swapped = items == self.pair.split("_")[1]
        chosen = name or self.names[0]

        @jax.jit
        def score(parameters, items, queries):
            sides = (queries, items) if swapped else (items, queries)
            x, y = (jax.tree.map(_in_float32, side) for side in sides)
            fine = None
            if self.fine:
                term = scoring_term(self.experiment, self.fine)
                fine = term.score(parameters[self.fine], Side.of(x), Side.of(y)).values
            found = self.scores(parameters, x.coarse @ y.coarse.T, fine)[chosen]
            return found.T if swapped else found

        return score

    def _temperature(self, term: str, parameters: Mapping[str, Any]):
        entry = self.experiment.objective.terms[term]
        return entry.term.current("temperature", parameters[term])


def scoring_term(experiment: Experiment, name: str) -> Term:
    """A term of the objective, with the implementation that runs on any device and dtype.

    Its implementation in training may need a certain device or dtype.
    """
    return experiment.objective.terms[name].term.with_implementation(None)


def _in_float32(v: AnyArray) -> AnyArray:
    return v if v.dtype == bool else v.astype(jnp.float32)
