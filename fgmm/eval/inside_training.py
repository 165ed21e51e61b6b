"""The evaluations of a config as callables for the training loop, which knows none of them."""

from fgmm import components
from fgmm.config import ConfigError
from fgmm.experiment.build import Experiment
from fgmm.experiment.evaluator import Evaluator


def from_config(experiment: Experiment) -> dict[str, Evaluator]:
    """The evaluations of ``config.evals``; their corpora are opened now, so that errors come early.

    Raises:
      ConfigError: the name or an option of an entry is wrong, or its corpus is missing.
    """
    evaluators = {}
    for name, entry in experiment.config.evals.items():
        key = f"evals.{name}"
        place, options = components.placed("eval", entry, key=key)
        evaluation = components.build("eval", options, key=key)
        try:
            bound = evaluation.bind(experiment)
        except ConfigError as error:
            raise ConfigError(
                f"{key}: {error}. To train without it, remove {key} from the config; shipped "
                "configs take validation=0 after the colon (an empty validation= where it names a "
                "split)"
            ) from error
        evaluators[name] = Evaluator(place["every"], bound, evaluation.table)
    return evaluators
