"""The evaluations of a config as callables for the training loop, which knows none of them."""

from fgmm import components
from fgmm.config import ConfigError, of_type
from fgmm.experiment.build import Experiment
from fgmm.experiment.evaluator import Evaluator


def from_config(experiment: Experiment) -> dict[str, Evaluator]:
    """The entries of ``config.evals``; their corpora are opened now, so that errors come early.

    Raises:
      ConfigError: an entry's name or an option is wrong, or its corpus is missing.
    """
    evaluators = {}
    for name, entry in experiment.config.evals.items():
        key = f"evals.{name}"
        every = entry.get("every", 0)
        if not of_type(every, int) or every < 0:
            raise ConfigError(f"{key}.every={every!r} must be 0 (only at the end) or more steps")
        options = {option: value for option, value in entry.items() if option != "every"}
        evaluation = components.build("eval", options, key=key)
        evaluators[name] = Evaluator(every, evaluation.bind(experiment))
    return evaluators
