"""Named arrays out of files that PyTorch or NumPy wrote. Nothing in a file is ever executed.

A ``.pth`` file is a pickle beside raw storages: in a zip archive (PyTorch 1.6 and later), or one
after the other (before). A pickle is a program, so this reader knows only the few functions that
make tensors. Where PyTorch is installed, its own reader is used, with ``weights_only``. A zip
archive of TorchScript, such as those of OpenAI's CLIP, has modules in the place of a dict and code
beside them: their tensors are read by the names of attributes, and the code is not.
"""

import collections
import importlib.util
import io
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fgmm.config import ConfigError

_BFLOAT16 = "bfloat16"
# The element types of storages.
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What a failed download saves in the place of weights, and its first bytes.
_NO_WEIGHTS = {
    "a web page": (b"<!doctype", b"<html", b"<?xml"),
    "a pointer of Git LFS": (b"version https://git-lfs",),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Training programs keep the weights under one of these keys.
_NESTED = ("state_dict", "model_state_dict", "model")


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that no weights need."""


class _Storage(NamedTuple):
    key: str
    kind: str
    numel: int

    def dtype(self, order: str) -> np.dtype:
        """The dtype of the elements in the file; bfloat16 is read as its 16 bits."""
        return np.dtype("u2" if self.kind == _BFLOAT16 else self.kind).newbyteorder(order)


class _Module:
    """A stand-in for a module of TorchScript.

    Attributes:
      held: its attributes by name.
    """

    held: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.held = state if isinstance(state, dict) else {}

    def named(self, prefix: str = "") -> dict[str, Any]:
        """The attributes of this module and of those inside it, as ``state_dict`` names them."""
        found = {}
        for name, value in self.held.items():
            inner = isinstance(value, _Module)
            found |= value.named(f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
        return found


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.pth`` or ``.npz`` file by name.

    A prefix ``module.`` that all names have is dropped. From a checkpoint of a training program,
    only the weights are taken.

    Raises:
      ConfigError: the file is missing, cut short, of no such format, or holds no arrays; its pickle
        asks for anything but tensors.
    """
    check_start(path)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(0)
            found = _npz(file) if path.suffix == ".npz" else _pth(file, start)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except _Refused as error:
        raise ConfigError(f"{path} is refused: {error}") from error
    except ConfigError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise ConfigError(
            f"{path} is damaged, cut short or no .pth or .npz file "
            f"({type(error).__name__}: {error})"
        ) from error
    if not found:
        raise ConfigError(f"{path} holds no arrays")
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): array for name, array in found.items()}
    return found


def check_start(path: pathlib.Path) -> None:
    """Looks at the first bytes of a file of weights.

    Raises:
      ConfigError: the file is missing or empty; or it is a web page, or a pointer of Git LFS, that
        was saved in the place of weights.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip().lower()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise ConfigError(f"{path} is empty")
    for what, starts in _NO_WEIGHTS.items():
        if start.startswith(starts):
            raise ConfigError(f"{path} is {what}, not weights; download the file itself")


def _npz(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _pth(file: io.BufferedIOBase, start: bytes) -> dict[str, np.ndarray]:
    zipped = start == b"PK\x03\x04"
    # PyTorch's reader does not read TorchScript without executing it.
    if importlib.util.find_spec("torch") is not None and not (zipped and _is_torchscript(file)):
        return _by_torch(file)
    return _zipped(file) if zipped else _legacy(file)


def _is_torchscript(file: io.BufferedIOBase) -> bool:
    with zipfile.ZipFile(file) as archive:
        found = any(name.endswith("/constants.pkl") for name in archive.namelist())
    file.seek(0)
    return found


def _by_torch(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Its message goes on with advice to execute the pickle after all.
        lines = [line.strip() for line in str(error).splitlines()]
        raise _Refused(next((line for line in lines if "Unsupported" in line), lines[0])) from error
    named = _weights(loaded, torch.Tensor)
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in named.items()
    }


def _zipped(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        (program,) = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        folder = program.removesuffix("data.pkl")
        order = "<"
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") == b"big":
            order = ">"
        loaded = _Unpickler(io.BytesIO(archive.read(program))).load()

        def data(storage: _Storage) -> bytes:
            return archive.read(f"{folder}data/{storage.key}")

        return _arrays(loaded, data, order)


def _legacy(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != _LEGACY_MAGIC or _Unpickler(file).load() != _LEGACY_PROTOCOL:
        raise ValueError("neither a zip archive nor PyTorch's format before it")
    little = _Unpickler(file).load()["little_endian"]
    unpickler = _Unpickler(file)
    loaded = unpickler.load()
    order = "<" if little else ">"
    contents = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        count = int.from_bytes(file.read(8), "little" if little else "big")
        if count != storage.numel:
            raise ValueError(f"storage {key} has {count} elements, not {storage.numel}")
        size = count * storage.dtype(order).itemsize
        contents[key] = file.read(size)
        if len(contents[key]) != size:
            raise EOFError(f"storage {key} is cut short")
    return _arrays(loaded, lambda storage: contents[storage.key], order)


class _Unpickler(pickle.Unpickler):
    """Knows tensors, ordered dicts, modules of TorchScript and nothing else.

    Attributes:
      storages: those that were met, by key.
    """

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file, encoding="latin-1")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module.partition(".")[0] == "__torch__":
            return _Module
        raise _Refused(f"its pickle asks for {module}.{name}, and weights need no such thing")

    def persistent_load(self, identity: Any) -> _Storage:
        # Legacy files also say which part of another storage this is; None for a whole storage.
        tag, kind, key, _, numel, *view = identity
        if tag != "storage" or any(part is not None for part in view):
            raise _Refused(f"its pickle refers to {tag!r}, or to a part of a storage")
        self.storages[str(key)] = _Storage(str(key), str(kind), int(numel))
        return self.storages[str(key)]


def _tensor(storage, offset, size, stride, *_) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _first(given, *_) -> Any:
    return given


_KNOWN: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    # Lists among the attributes of modules.
    **{
        ("torch.jit._pickle", name): _first
        for name in (
            *("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"),
            "restore_type_tag",
        )
    },
}


def _weights(loaded: Any, kind: type) -> dict[str, Any]:
    """The tensors by name, out of the object that a file held."""
    if isinstance(loaded, _Module):
        loaded = loaded.named()
    if isinstance(loaded, Mapping):
        for key in _NESTED:
            if isinstance(loaded.get(key), Mapping):
                return _weights(loaded[key], kind)
        return {str(name): value for name, value in loaded.items() if isinstance(value, kind)}
    raise ValueError(f"it holds {type(loaded).__name__}, not tensors by name")


def _arrays(loaded: Any, data: Callable[[_Storage], bytes], order: str) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in _weights(loaded, _Tensor).items():
        storage = tensor.storage
        if storage.key not in flat:
            flat[storage.key] = np.frombuffer(data(storage), storage.dtype(order))
        array = _view(name, tensor, flat[storage.key])
        if storage.kind == _BFLOAT16:  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    return arrays


def _view(name: str, tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    """A copy of the part of a storage that a tensor is a view of.

    Raises:
      ValueError: the tensor reaches beyond its storage.
    """
    numel = int(np.prod(tensor.size, dtype=object))
    steps = [(n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True)]
    last = tensor.offset + sum(steps)
    whole = all(number >= 0 for number in (tensor.offset, *tensor.size, *tensor.stride))
    if not whole or (numel and last >= len(flat)) or numel > len(flat):
        raise ValueError(f"{name} of shape {tensor.size} is not within its storage")
    if not numel:
        array = np.zeros(tensor.size, flat.dtype)
    else:
        bytes_of = [step * flat.itemsize for step in tensor.stride]
        array = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, bytes_of)
    return array.astype(flat.dtype.newbyteorder("="))
