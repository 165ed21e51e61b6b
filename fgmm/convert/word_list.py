"""A published list of words, a NumPy array in a ``.npy`` file, read without executing pickles."""

import io
import pathlib
import pickle
from typing import Any

import numpy as np

from fgmm.config import ConfigError


def read(path: pathlib.Path) -> list[str]:
    """The words, in order.

    Raises:
      ConfigError: the file is missing, damaged, or no array [words] of strings; an array of
        objects is read if all of them are strings.
    """
    try:
        with open(path, "rb") as file:
            words = _words(file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged files raise nearly anything
        raise ConfigError(f"{path} is no list of words: {error}") from error
    if not words:
        raise ConfigError(f"{path} is no list of words: it is empty")
    return words


def _words(file: io.BufferedIOBase) -> list[str]:
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = header(file)
    if dtype.hasobject:
        items = _Unpickler(file, encoding="latin-1").load().items
    else:
        file.seek(0)
        items = np.load(file, allow_pickle=False).tolist()
    if len(shape) != 1 or len(items) != shape[0]:
        raise ValueError(f"it has shape {shape}, not [words]")
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"it holds {type(item).__name__}, not strings alone")
    return items


class _Objects:
    """A stand-in for an array of objects: its elements, in order."""

    items: list[Any]

    def __setstate__(self, state: tuple) -> None:
        self.items = list(state[-1])


class _Dtype:
    """A stand-in for a dtype; the header has given it already."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state: tuple) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Knows arrays of objects and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) == ("numpy._core.multiarray", "_reconstruct"):
            return lambda *_: _Objects()
        if (module, name) == ("numpy", "ndarray"):
            return _Objects
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        raise pickle.UnpicklingError(
            f"its pickle asks for {module}.{name}; strings need no such thing"
        )
