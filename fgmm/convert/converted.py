"""What a published model becomes: the folder of a run of no steps, with a checkpoint of step 0."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import tree_leaves_with_path as tree_leaves

from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.experiment.build import Experiment
from fgmm.experiment.rules import path_of
from fgmm.experiment.state import TrainState
from fgmm.train.checkpoint import Checkpoints

# The most arrays that an error names.
_NAMED = 5
# PyTorch's counters of batches, which nothing needs.
_COUNTER = ".num_batches_tracked"


class Conversion(NamedTuple):
    """A converted model.

    Attributes:
      experiment: what its config describes.
      state: before the first step.
    """

    experiment: Experiment
    state: TrainState


class Take(NamedTuple):
    """Where an array of the model comes from.

    Attributes:
      names: of the published arrays, joined along their first axis; none for a constant.
      form: ``form(joined, shape)`` brings the joined array into this package's form. If it does not
        fit ``shape``, the result has another shape.
      part: ``(number, count)`` takes part ``number`` of ``count`` equal parts of the first axis of
        the joined array.
      hint: on the shape, for an error.
    """

    names: tuple[str, ...]
    form: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    part: tuple[int, int] = (0, 1)
    hint: str = ""


def undone_by(inverse: Callable[[np.ndarray], np.ndarray]) -> Callable[[Callable], Callable]:
    """Gives the form of a ``Take`` its inverse, which ``given_back`` applies."""

    def marked(form: Callable) -> Callable:
        form.inverse = inverse
        return form

    return marked


@undone_by(lambda array: array)
def as_is(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array that needs no change."""
    del shape
    return array


@undone_by(np.ravel)
def vector(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A vector, cut into one row for each attention head if ``shape`` says so."""
    return array.reshape(shape) if array.shape == (math.prod(shape),) else array


@undone_by(lambda array: array.transpose(3, 2, 0, 1))
def convolution(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel from OIHW to HWIO."""
    del shape
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


@undone_by(lambda array: array.reshape(len(array), -1).T)
def linear(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A matrix from (out, in) to (in, out); outputs may be laid out by attention head."""
    return _by_head(array.T, shape, 1)


@undone_by(lambda array: array.reshape(-1, array.shape[-1]).T)
def linear_of_heads(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A matrix from (out, in) to (in, out); inputs are laid out by attention head."""
    return _by_head(array.T, shape, len(shape) - 1)


def identity(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The identity matrix of this shape, whatever ``array`` is."""
    del array
    return np.eye(*shape)


def zeros(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of this shape, whatever ``array`` is."""
    del array
    return np.zeros(shape)


def _by_head(array: np.ndarray, shape: tuple[int, ...], inputs: int) -> np.ndarray:
    fits = array.shape == (math.prod(shape[:inputs]), math.prod(shape[inputs:]))
    return array.reshape(shape) if fits else array


def brought(
    arrays: Mapping[str, np.ndarray],
    blank: Any,
    take: Callable[[str], Take],
    model: str,
    *,
    flag: str = "--weights",
) -> Any:
    """Puts published arrays into the tree of a model, as float32.

    All faults are printed, a line for each array, before the error is raised.

    Args:
      arrays: by their published names; counters of batches are ignored.
      blank: a tree of the model's arrays, or of their shapes.
      take: where the array of a path in that tree comes from.
      model: its name, for the error.
      flag: the flag that named the arrays, for the error.

    Raises:
      ConfigError: arrays are missing, left over, of another shape or not finite.
    """
    takes = {path_of(at): take(path_of(at)) for at, _ in tree_leaves(blank)}
    needed = {name for found in takes.values() for name in found.names}
    given = {name for name in arrays if not name.endswith(_COUNTER)}
    wrong = {"missing": sorted(needed - given), "unexpected": sorted(given - needed)}
    faults: list[str] = []

    def bring(at, like):
        found = takes[path_of(at)]
        parts = [arrays[name] for name in found.names if name in arrays]
        if len(parts) < len(found.names):
            return None
        name = ", ".join(found.names)
        try:
            whole = np.concatenate(parts) if len(parts) > 1 else (parts or [np.zeros(())])[0]
            number, of = found.part
            array = found.form(np.split(whole, of)[number] if of > 1 else whole, like.shape)
        except ValueError:  # shapes that cannot be joined, split or transposed
            array = np.zeros((0,))
        if array.shape != like.shape:
            shapes = ", ".join(str(part.shape) for part in parts)
            faults.append(
                f"{name} has shape {shapes}, or {array.shape} in this package's form; "
                f"{like.shape} is needed{found.hint}"
            )
        elif not np.isfinite(array.astype(np.float32)).all():
            faults.append(f"{name} holds values that are not finite")
        return np.array(array, np.float32, order="C")

    result = jax.tree_util.tree_map_with_path(bring, blank)
    # Several arrays of the model may come from one published array, with the same fault.
    faults = list(dict.fromkeys(faults))
    lines = [f"{what:10} {name}" for what, names in wrong.items() for name in names] + faults
    if lines:
        print("\n".join(lines))
        parts = [f"{what} {_first(names)}" for what, names in wrong.items() if names]
        if faults:
            parts.append(_first(faults))
        raise ConfigError(f"{flag} is no {model}: {'; '.join(parts)}")
    return result


def given_back(
    arrays: Mapping[str, np.ndarray], take: Callable[[str], Take]
) -> dict[str, np.ndarray]:
    """Arrays of a model by their published names and in the published form: the inverse of
    ``brought``.

    Args:
      arrays: by their paths in the model. If several are copies of one published array, only one of
        them.
      take: where the array of a path comes from; every form of a published array has an inverse.
    """
    parts: dict[str, dict[int, np.ndarray]] = {}
    for path, array in arrays.items():
        found = take(path)
        number, _ = found.part
        whole = found.form.inverse(np.asarray(array)) if found.names else None
        pieces = np.split(whole, len(found.names)) if len(found.names) > 1 else [whole]
        for name, piece in zip(found.names, pieces, strict=False):
            parts.setdefault(name, {})[number] = piece
    return {
        name: np.array(
            np.concatenate([held[number] for number in sorted(held)])
            if len(held) > 1
            else next(iter(held.values())),
            order="C",
        )
        for name, held in parts.items()
    }


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def before_training(built: Experiment, params: Any, statistics: Any) -> Conversion:
    """A run of no steps with these parameters.

    Args:
      built: what its config describes.
      params: ``{"model": ..., "objective": ...}``.
      statistics: the model's mutable collections.
    """
    _, run_key = jax.random.split(jax.random.key(built.config.seed))
    # The state of an optimizer before its first step is all zeros.
    opt_state = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), built.abstract_state.opt_state
    )
    state = TrainState.create(params, statistics, opt_state, run_key, average=False)
    return Conversion(built, state)


def write(found: Conversion, output: pathlib.Path, origin: Mapping[str, Any]) -> None:
    """Writes the folder of a run of no steps.

    Args:
      found: the model.
      output: the folder; made if missing.
      origin: where the weights come from; results that are measured with them name it.

    Raises:
      ConfigError: there is a run in the folder already.
    """
    if (output / "checkpoints").exists():
        raise ConfigError(f"--output={output} holds checkpoints already; give another folder")
    output.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(output, found.experiment, found.experiment.config.checkpoint)
    checkpoints.save(0, found.state, {"next_step": 0, "problems": {}})
    checkpoints.close()
    provenance.note_start(output, 0, converted=dict(origin))
