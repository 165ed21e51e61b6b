"""Whether a config continues the run whose checkpoints a workdir holds."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from fgmm import components
from fgmm.config import Config, ConfigError, differences, tuples, with_new_keys
from fgmm.config.option import shortened
from fgmm.experiment.schedules import schedule

# Keys that may change if the finished steps keep their learning rates.
_SCHEDULE = ("steps", "optimizer.schedule.")


def check_config(
    workdir: pathlib.Path, saved: Mapping[str, Any], current: Mapping[str, Any], step: int
) -> None:
    """Compares a config with that of a checkpoint.

    A run may become longer or shorter if the finished steps keep their learning rates. They do with
    the schedules ``constant`` and ``rsqrt`` if the warmup is in whole steps and no cooldown has
    begun.

    Args:
      workdir: of the run.
      saved: the config of the checkpoint.
      current: the config of this start.
      step: finished steps of the checkpoint.

    Raises:
      ConfigError: ``current`` does not continue the run: another key differs, it has fewer steps
        than are finished, or the finished steps would have had other learning rates.
    """
    saved, current = _with_options(with_new_keys(saved)), _with_options(current)
    changed = differences(saved, current)
    if not changed:
        return
    if not all(line.startswith(_SCHEDULE) for line in changed):
        raise ConfigError(
            f"--workdir={workdir} holds a run of another config ({shortened(changed, 5)}): "
            "give another workdir, or the config it was started with"
        )
    if step > current["steps"]:
        raise ConfigError(
            f"--workdir={workdir} holds a run of {step} finished steps, more than "
            f"steps={current['steps']}; give at least as many, or another workdir"
        )
    before, now = (_learning_rates(config, step) for config in (saved, current))
    apart = np.flatnonzero(~np.isclose(before, now, rtol=1e-6, atol=0))
    if apart.size:
        first = int(apart[0])
        raise ConfigError(
            f"--workdir={workdir} holds {step} finished steps, which would have had other learning "
            f"rates with {'; '.join(changed)} (step {first + 1}: {before[first]:.3g} -> "
            f"{now[first]:.3g}): start another workdir with --config.init_from.path={workdir}. "
            "Runs with optimizer.schedule.name=constant or rsqrt and a warmup in whole steps can "
            "be made longer"
        )


def _with_options(config: Mapping[str, Any]) -> Config:
    """A config with the defaults of options that its components have gained since it was saved."""
    try:
        return components.complete(ml_collections.ConfigDict(tuples(config)))
    except ConfigError:
        return config  # A component no longer exists; it may be an evaluation, which may change.


def _learning_rates(config: Config, finished: int) -> np.ndarray:
    """The learning rates of the finished steps under a config, float32 [finished]."""
    options = config["optimizer"]
    of_step = schedule(options["schedule"], options["learning_rate"], config["steps"])
    return np.broadcast_to(np.asarray(of_step(np.arange(finished)), np.float32), (finished,))
