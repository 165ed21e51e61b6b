"""Named arrays out of files of weights: of safetensors, PyTorch or NumPy. Nothing in a file is ever
executed.
"""

import json
import pathlib
from collections import Counter
from collections.abc import Mapping

import ml_dtypes  # noqa: F401, by which NumPy knows bfloat16
import numpy as np
import safetensors

from fgmm.config import ConfigError
from fgmm.convert import state_dict

_SAFE = ".safetensors"
_PREFIXES = ("module.", "model.")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name: ``.safetensors``, or what ``state_dict.read`` reads.

    Raises:
      ConfigError: the file is missing, empty, damaged, a web page in the place of weights, or
        holds no arrays.
    """
    if path.suffix != _SAFE:
        return state_dict.read(path)
    state_dict.check_start(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged or no {_SAFE} file ({error})") from error
    if not found:
        raise ConfigError(f"{path} holds no arrays")
    return found


def shards(index: pathlib.Path) -> list[pathlib.Path]:
    """The files that an index of Hugging Face's lists, ``*.index.json``.

    Raises:
      ConfigError: it is no such index, or a file is missing; all that are missing are named.
    """
    try:
        listed = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted({str(name) for name in listed.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index} is no index of shards ({error})") from error
    if not names:
        raise ConfigError(f"{index} lists no files")
    # A name with a folder in it could lead out of this one.
    missing = [name for name in names if "/" in name or not (index.parent / name).is_file()]
    if missing:
        raise ConfigError(f"{index} lists files that are not there: {', '.join(missing)}")
    return [index.parent / name for name in names]


def read_all(paths: list[pathlib.Path]) -> dict[str, np.ndarray]:
    """The arrays of several files, without ``module.`` or ``model.`` where all names begin with it.

    Raises:
      ConfigError: as ``read``; or two files have an array of the same name.
    """
    found: dict[str, np.ndarray] = {}
    for path in paths:
        arrays = read(path)
        if twice := sorted(found.keys() & arrays.keys()):
            raise ConfigError(f"{path} has arrays of other files too, such as {twice[0]}")
        found |= arrays
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in found)), ""):
        found = {name.removeprefix(prefix): array for name, array in found.items()}
    return found


def kinds(arrays: Mapping[str, np.ndarray]) -> str:
    """The dtypes of arrays, and how many arrays have each: ``"398 float16, 2 int64"``."""
    counts = Counter(str(array.dtype) for array in arrays.values())
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
