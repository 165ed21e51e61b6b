"""Inputs of a trained model, checked and converted to arrays. Errors name the input."""

import operator
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Shaped
from PIL import Image

from fgmm.data.media import decode
from fgmm.data.media.stretch import Stretch
from fgmm.data.schema import BadInput, BatchShape, Waveform

# Sound that FFmpeg decodes may go slightly beyond 1; integers cast to floats go far beyond.
_LOUDEST = 2.0
# The most channels of a recording.
_MOST_CHANNELS = 16


def sequence(given: Any, name: str, expected: str) -> Sequence | np.ndarray:
    """Checks that an argument holds several inputs, and returns it.

    Args:
      given: a list, a tuple, or an array whose first axis is B.
      name: name of the argument, for errors.
      expected: what the argument should be, for errors.

    Raises:
      TypeError: ``given`` is none of these.
    """
    if isinstance(given, list | tuple):
        return given
    if isinstance(given, str | os.PathLike | Image.Image):
        raise TypeError(f"{name} is one {type(given).__name__}; give a list, {name}=[...]")
    if hasattr(given, "__array__"):
        array = np.asarray(given)
        if array.ndim and array.dtype != object:
            return array
    raise TypeError(f"{name} is {_kind(given)}; give {expected}")


def whole(given: Any, name: str) -> int:
    """Checks that an argument is an integer of at least 1, and returns it.

    Raises:
      TypeError: ``given`` is not an integer.
      ValueError: it is below 1.
    """
    try:
        number = operator.index(None if isinstance(given, bool) else given)
    except TypeError:
        raise TypeError(f"{name} must be an int; got {given!r} ({_kind(given)})") from None
    if number < 1:
        raise ValueError(f"{name}={given!r} must be at least 1")
    return number


def clip(given: Any, name: str, shape: BatchShape, seconds: float) -> Shaped[np.ndarray, "T H W C"]:
    """A clip brought to the frames, rows and columns of a batch.

    Args:
      given: frames uint8, or floats in [0, 1], [T,H,W,3]; a list of PIL images; or the path of a
        video, of which ``seconds`` in the middle are taken. For a model on stored features: floats
        of the batch's shape.
      name: name of the input, for errors.
      shape: shape of the batch.
      seconds: how much of a video is taken.

    Returns:
      uint8 [T,H,W,3], or stored features as float16 [T,H,W,E].

    Raises:
      TypeError, ValueError: ``given`` is none of these, or cannot be read.
    """
    if shape.features:
        return _features(given, name, shape)
    if isinstance(given, str | os.PathLike):
        out = np.zeros((shape.frames, shape.height, shape.width, 3), np.uint8)
        _read(given, name, lambda data: Stretch(data, None, seconds).fill(out, shape.resizing))
        return out
    if isinstance(given, list | tuple) and given and isinstance(given[0], Image.Image):
        given = [decode.upright(picture) for picture in given]
    frames = _pixels(given, name, "[T,H,W,3]")
    size = (shape.height, shape.width)
    return decode.fit_frames(frames, shape.frames, *size, resizing=shape.resizing)


def image(given: Any, name: str, shape: BatchShape) -> Shaped[np.ndarray, "T H W C"]:
    """An image as a static clip of a batch's shape.

    Args:
      given: an array [H,W,3], a PIL image or the path of an image. For a model on stored features:
        floats [H,W,E].
      name, shape: as in ``clip``.

    Raises:
      TypeError, ValueError: as in ``clip``.
    """
    if shape.features:
        return _features(_array(given, name, "[H,W,E]")[None], name, shape)
    size = (shape.height, shape.width)
    if isinstance(given, str | os.PathLike):
        frames = _read(given, name, lambda data: decode.read_image(data, *size, shape.resizing))
    elif isinstance(given, Image.Image):
        frames = decode.upright(given)[None]
    else:
        frames = _pixels(given, name, "[H,W,3]")[None]
    return decode.fit_frames(frames, shape.frames, *size, resizing=shape.resizing)


def sound(
    given: Any, name: str, rate: int, shape: BatchShape, seconds: float
) -> Float32[np.ndarray, "S"]:
    """A sound brought to the length and the sample rate of a batch.

    Args:
      given: samples in [-1, 1], [S]; several channels, [S,C] or [C,S], which are averaged; or the
        path of a recording, of which ``seconds`` in the middle are taken.
      name: name of the input, for errors.
      rate: sample rate of an array, in Hz.
      shape: shape of the batch.
      seconds: how much of a recording is taken.

    Raises:
      TypeError, ValueError: ``given`` is none of these, or cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        heard = _read(given, name, lambda data: Stretch(data, None, seconds).sound())
    else:
        heard = Waveform(_samples(given, name), rate)
    return decode.fit_sound(heard, shape.samples, shape.sample_rate)


def sounds(given: Any, name: str) -> Sequence | np.ndarray:
    """As ``sequence``, for sounds.

    Raises:
      TypeError: as in ``sequence``.
      ValueError: the array is one sound, [S] or [S,C].
    """
    found = sequence(given, name, "[B,S], or a list of sounds [S]")
    if isinstance(found, np.ndarray):
        several = found.ndim == 2 and 0 < found.shape[1] <= _MOST_CHANNELS < found.shape[0]
        if found.ndim == 1 or several:
            raise ValueError(
                f"{name} has shape {found.shape}, that of one sound; give a list, {name}=[...]"
            )
    return found


def _read(path: str | os.PathLike, name: str, read: Any) -> Any:
    try:
        return read(pathlib.Path(path).expanduser().read_bytes())
    except (OSError, BadInput) as error:
        raise ValueError(f"{name}={os.fspath(path)!r} cannot be read ({error})") from error


def _kind(given: Any) -> str:
    return "None" if given is None else type(given).__name__


def _array(given: Any, name: str, expected: str) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:
        raise ValueError(f"{name} has parts of different shapes; expected {expected}") from None
    if array.dtype == object:
        raise TypeError(f"{name} is {_kind(given)}; give an array {expected}")
    return array


def _check_floats(array: np.ndarray, name: str, what: str, wanted: str) -> None:
    """Raises TypeError if an array does not hold floats, ValueError if one is not finite."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} is of {array.dtype}; {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {what} that are NaN or infinite")


def _pixels(given: Any, name: str, expected: str) -> np.ndarray:
    """Pixels as uint8, with the axes of ``expected``."""
    array = _array(given, name, expected)
    if array.ndim != expected.count(",") + 1 or array.shape[-1] != 3:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}, RGB last")
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: no pixels")
    if array.dtype == np.uint8:
        return array
    _check_floats(array, name, "pixels", "give uint8, or floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise ValueError(f"{name} ranges from {low:g} to {high:g}; floats must be in [0, 1]")
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)


def _features(given: Any, name: str, shape: BatchShape) -> np.ndarray:
    """Stored features, checked, as float16 [T,H,W,E]."""
    expected = (shape.frames, shape.height, shape.width, shape.features)
    array = _array(given, name, str(expected))
    if array.shape != expected:
        raise ValueError(
            f"{name} has shape {array.shape}; this model takes stored features of {expected}"
        )
    _check_floats(array, name, "features", "stored features are floats")
    return array.astype(np.float16)


def _samples(given: Any, name: str) -> np.ndarray:
    """Samples, checked, with channels averaged, as float32 [S]."""
    array = _array(given, name, "[S]")
    several = array.ndim == 2 and min(array.shape) <= _MOST_CHANNELS < max(array.shape)
    if not array.size or not (array.ndim == 1 or several):
        raise ValueError(
            f"{name} has shape {array.shape}; expected [S], or [S,C] of C channels, not empty"
        )
    _check_floats(array, name, "samples", "give floats in [-1, 1]")
    if (loudest := float(np.abs(array).max())) > _LOUDEST:
        raise ValueError(f"{name} reaches {loudest:g}; samples must be in [-1, 1]")
    if several:
        array = array.mean(axis=int(np.argmin(array.shape)))
    return array.astype(np.float32)
