"""Which checkpoints of a run are kept: the latest, and the best by a number of an evaluation."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from orbax.checkpoint.checkpoint_managers import preservation_policy

from fgmm.config import Config, ConfigError

# Numbers that an error message names.
_NAMED = 10

# The scores of checkpoints by step; None for one that was not evaluated.
Scores = Mapping[int, Mapping[str, float] | None]


class Kept(preservation_policy.PreservationPolicy):
    """Tells Orbax which checkpoints to keep.

    Args:
      options: ``config.checkpoint``.
    """

    def __init__(self, options: Config):
        self._options = options
        # Orbax knows only the scores that were there when it opened the folder.
        self._added: dict[int, Mapping[str, float]] = {}
        self._seen = False

    def add(self, step: int, scores: Mapping[str, float]) -> dict[str, float] | None:
        """Takes the scores of a saved step; returns what of them is to be stored."""
        name = self._options["best_metric"]
        if name not in scores:
            return None
        self._added[step] = {name: float(scores[name])}
        return self._added[step]

    def steps(self, scores: Scores) -> set[int]:
        """The steps to keep."""
        last, best = self._options["keep_last"], self._options["keep_best"]
        known = {step: self._added.get(step, of) for step, of in scores.items()}
        # With -0 the slice would hold all.
        good = ranked(self._options, known)[-best:] if best else []
        return {*sorted(scores)[-last:], *good}

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: preservation_policy.PreservationContext
    ) -> list[bool]:
        """As Orbax wants to know it."""
        del context
        kept = self.steps({saved.step: saved.metrics for saved in checkpoints})
        return [saved.step in kept for saved in checkpoints]

    def check(self, evaluation: str, scores: Mapping[str, float]) -> None:
        """Checks the first scores of the evaluation that ``best_metric`` names.

        Args:
          evaluation: the name of an evaluation.
          scores: of it, by whole name.

        Raises:
          ConfigError: ``best_metric`` is not among them.
        """
        metric = self._options["best_metric"]
        self._seen = self._seen or metric in scores
        if self._seen or metric.partition("/")[0] != evaluation:
            return
        nearest = difflib.get_close_matches(metric, scores, 3)
        names = list(dict.fromkeys([*nearest, *scores]))
        more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
        raise ConfigError(
            f"checkpoint.best_metric={metric!r} is no number of the evaluation {evaluation!r}; it "
            f"reports {', '.join(names[:_NAMED]) or 'none'}{more}. The state is saved: start again "
            "with one of these, or with --config.checkpoint.best_metric= to keep no best checkpoint"
        )


def ranked(options: Config, scores: Scores) -> list[int]:
    """The steps with the number ``best_metric``, the best last; of equal ones the later is better.

    Args:
      options: ``config.checkpoint``.
      scores: those of any steps.
    """
    name, sign = options["best_metric"], -1 if options["best_mode"] == "min" else 1
    found = {step: (of or {}).get(name, math.nan) for step, of in scores.items()}
    return sorted(
        (step for step, value in found.items() if not math.isnan(value)),
        key=lambda step: (sign * found[step], step),
    )
