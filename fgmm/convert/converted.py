"""What a published model becomes: the folder of a run of no steps."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.train.checkpoint import Checkpoints

# Arrays that an error names.
_NAMED = 5
# PyTorch's counters of batches, which nothing needs.
_COUNTER = ".num_batches_tracked"


class Converted(NamedTuple):
    """What becomes of a published model.

    Attributes:
      experiment: of its config.
      state: before the first step.
    """

    experiment: Experiment
    state: TrainState


def check_names(weights: Mapping[str, Any], needed: set[str], model: str) -> None:
    """Compares the names of published arrays with those that a model needs.

    Args:
      weights: by name; counters of batches are passed over.
      needed: names.
      model: what it would be.

    Raises:
      ConfigError: names are missing or unexpected.
    """
    given = {name for name in weights if not name.endswith(_COUNTER)}
    wrong = [
        f"{what} {', '.join(sorted(names)[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for what, names in (("missing", needed - given), ("unexpected", given - needed))
        if names
    ]
    if wrong:
        raise ConfigError(f"--weights is no {model}: {'; '.join(wrong)}")


def checked(
    name: str, array: np.ndarray, given: tuple[int, ...], shape: tuple[int, ...], hint: str = ""
) -> np.ndarray:
    """A published array in this package's form, as float32.

    Args:
      name: as published.
      array: its axes are in the order of this package.
      given: its shape as published.
      shape: what is needed.
      hint: on the shape, for the error.

    Raises:
      ConfigError: it has another shape, or values that are not finite.
    """
    if array.shape != shape:
        raise ConfigError(
            f"--weights: {name} has shape {given}, or {array.shape} in this package's form; "
            f"{shape} is needed{hint}"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"--weights: {name} holds values that are not finite")
    return np.ascontiguousarray(array, dtype=np.float32)


def write(found: Converted, output: pathlib.Path, origin: Mapping[str, Any]) -> None:
    """Writes the folder of a run of no steps.

    Args:
      found: the model.
      output: the folder; made if missing.
      origin: of the weights, for the provenance of what is measured with them.

    Raises:
      ConfigError: there is a run in it already.
    """
    if (output / "checkpoints").exists():
        raise ConfigError(f"--output={output} holds checkpoints already; give another folder")
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(output, found.experiment, found.experiment.config.checkpoint)
    checkpoints.save(0, found.state, {"next_step": 0, "problems": {}})
    checkpoints.close()
    provenance.note_start(output, 0, converted=dict(origin))
