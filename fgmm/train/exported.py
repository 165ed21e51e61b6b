"""Opens folders that hold only weights, as ``fgmm.export`` writes them, in the place of a run.

Such a folder has ``model.safetensors`` with parameters and statistics by their paths, and
``config.json`` with the resolved config. The tokenizer has the same name as in a run.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
from flax.traverse_util import flatten_dict, unflatten_dict

from fgmm.config import ConfigError, with_new_keys
from fgmm.config.option import shortened
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# Names in the header of the file of weights.
STEP, KIND = "fgmm_step", "fgmm_weights"
_PARAMS = "params"
_CONVERT = "of published weights, python -m fgmm.convert makes a run"
# The most arrays that an error names.
_NAMED = 3


class SavedState(NamedTuple):
    """What another run can start with, as numpy arrays.

    Attributes:
      step: finished steps.
      config: as it was saved, with keys that ``defaults`` has gained since.
      params, statistics: as in ``TrainState``.
    """

    step: int
    config: dict[str, Any]
    params: dict[str, Any]
    statistics: dict[str, Any]


def is_exported(folder: pathlib.Path) -> bool:
    """Whether a folder has the two files of exported weights. ``read`` checks what they hold."""
    return (folder / WEIGHTS).exists() and (folder / CONFIG).exists()


def refuse(workdir: pathlib.Path) -> None:
    """Raises ConfigError if the folder for a new run has exported weights."""
    if is_exported(workdir):
        raise ConfigError(
            f"--workdir={workdir} holds exported weights; give another workdir, and "
            f"--config.init_from.path={workdir} to start with them"
        )


def named(params: Any, statistics: Any) -> dict[str, np.ndarray]:
    """Numpy arrays by their paths, such as ``batch_stats/encoders_video/BatchNorm_0/mean`` and
    ``params/model/encoders_text/block_0/Dense_0/kernel``.

    Args:
      params, statistics: as in ``TrainState``, or those of the model alone.
    """
    flat = flatten_dict({_PARAMS: params, **statistics}, sep="/")
    return {path: np.array(jax.device_get(array), order="C") for path, array in flat.items()}


def weights_of(folder: pathlib.Path) -> str:
    """Which parameters a folder holds: ``"ema"`` or ``"last"``."""
    with safetensors.safe_open(folder / WEIGHTS, framework="numpy") as file:
        return file.metadata()[KIND]


def config_of(folder: pathlib.Path) -> dict[str, Any]:
    """The config, with keys that ``defaults`` has gained since.

    Raises:
      ConfigError: its file is missing or damaged.
    """
    path = folder / CONFIG
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is missing or damaged ({error})") from error
    if not isinstance(saved, dict) or "objective" not in saved:
        raise ConfigError(f"{path} is no config of a run; {_CONVERT}")
    return with_new_keys(saved)


def read(folder: pathlib.Path, step: str = "latest", weights: str = "") -> SavedState:
    """Reads a folder of weights alone.

    Args:
      folder: to read.
      step: ``"latest"``, ``"best"`` or the one step that it holds.
      weights: ``"ema"`` or ``"last"``; by default what it holds.

    Raises:
      ConfigError: it holds another step or other weights, is damaged, or was not written by
        ``fgmm.export``.
    """
    path = folder / WEIGHTS
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged or no file of safetensors ({error})") from error
    if STEP not in header:
        raise ConfigError(f"--workdir={folder} was not written by fgmm.export; {_CONVERT}")
    if step not in ("latest", "best", header[STEP]):
        raise ConfigError(
            f"there is no checkpoint of --step={step!r}; allowed: latest, best, {header[STEP]}"
        )
    if weights not in ("", header[KIND]):
        raise ConfigError(
            f"--weights={weights!r}: {folder} holds other weights; allowed: {header[KIND]}"
        )
    tree = unflatten_dict(arrays, sep="/")
    return SavedState(int(header[STEP]), config_of(folder), tree.pop(_PARAMS, {}), tree)


def state(experiment: Experiment, saved: SavedState) -> TrainState:
    """A train state with saved weights, but without a state of the optimizer.

    Args:
      experiment: what the saved config describes.
      saved: the weights.

    Raises:
      ConfigError: arrays are missing, left over or of another shape.
    """
    blank = experiment.abstract_state
    needed = flatten_dict({_PARAMS: blank.params, **blank.statistics}, sep="/")
    found = flatten_dict({_PARAMS: saved.params, **saved.statistics}, sep="/")
    if wrong := _differences(needed, found):
        raise ConfigError(f"{WEIGHTS} does not fit {CONFIG}: {shortened(wrong, _NAMED)}")
    key = jax.random.key(experiment.config.seed)
    # An empty collection leaves no array in the file.
    statistics = {name: saved.statistics.get(name, tree) for name, tree in blank.statistics.items()}
    fresh = TrainState.create(saved.params, statistics, (), key, average=False)
    return jax.device_put(fresh.replace(step=fresh.step + saved.step), jax.local_devices()[0])


def _differences(needed: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    lines = [f"{name} is missing" for name in sorted(needed.keys() - found.keys())]
    lines += [f"{name} is left over" for name in sorted(found.keys() - needed.keys())]
    return lines + [
        f"{name} has shape {found[name].shape}, not {needed[name].shape}"
        for name in sorted(needed.keys() & found.keys())
        if found[name].shape != needed[name].shape
    ]
