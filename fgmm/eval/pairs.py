"""Where clips are compared with text: the space of the heads, and the term of fine scores."""

from fgmm.config import ConfigError
from fgmm.experiment.build import Experiment
from fgmm.losses import Term


def space_of(experiment: Experiment, pair: str, space: str, *, name: str) -> str:
    """The space in which both sides of a pair are.

    Args:
      experiment: of the checkpoint.
      pair: such as ``"video_text"``.
      space: the one asked for; empty for the first.
      name: of the evaluation, for the error.

    Raises:
      ConfigError: there is none, or none of that name.
    """
    sides = set(pair.split("_"))
    spaces = experiment.model.spaces
    allowed = [known for known, entry in spaces.items() if sides <= set(entry["modalities"])]
    if not allowed or (space and space not in allowed):
        raise ConfigError(
            f"{name}: space={space!r} does not have both sides of {pair}; "
            f"allowed: {', '.join(allowed) or 'none'}"
        )
    return space or allowed[0]


def fine_term(experiment: Experiment, pair: str, space: str, term: str, *, name: str) -> str:
    """The term of the objective whose similarity is the fine score; empty if there is none.

    Args:
      experiment: of the checkpoint.
      pair: such as ``"video_text"``.
      space: as ``space_of`` returns it.
      term: the one asked for; empty for the first fine one on the pair in that space.
      name: of the evaluation, for the error.

    Raises:
      ConfigError: there is none of the name asked for.
    """
    fine = [
        known
        for known, entry in experiment.objective.terms.items()
        if (entry.pair, entry.level, entry.space) == (pair, "fine", space)
    ]
    if term and term not in fine:
        raise ConfigError(
            f"{name}: term={term!r} is no fine term on {pair} in space {space!r}; "
            f"allowed: {', '.join(fine) or 'none'}"
        )
    return term or (fine[0] if fine else "")


def scoring_term(experiment: Experiment, name: str) -> Term:
    """A term of the objective for scoring on any device. Its implementation in training may need a
    certain device or dtype.
    """
    return experiment.objective.terms[name].term.with_implementation(None)
