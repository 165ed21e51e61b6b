"""Files that are on disk as a whole, or not at all."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from fgmm import atomic, remote
from fgmm.config import ConfigError


class OutputFailed(Exception):
    """A shard or the manifest could not be written; what was finished before stays."""


@contextlib.contextmanager
def sole_writer(
    output: pathlib.Path, folders: Iterable[str] = ("finished", "unfinished")
) -> Iterator[None]:
    """Makes the folder and locks it against other programs until the context ends.

    Args:
      output: the folder.
      folders: made in it. One of them is ``unfinished``, which is emptied before and after.

    Raises:
      ConfigError: the folder cannot be written, or another program writes there.
    """
    remote.refuse(output, "--output")
    try:
        for folder in (output, *(output / name for name in folders)):
            folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(output / "lock", os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"--output={output} cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ConfigError(f"--output={output}: another program writes there") from error
    try:
        _clear(output / "unfinished")
        yield
    finally:
        _clear(output / "unfinished")
        os.close(lock)


def _clear(folder: pathlib.Path) -> None:
    for left in folder.iterdir():
        left.unlink()


def checksum(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes a JSON file as a whole or not at all.

    Raises:
      OutputFailed: it cannot be written.
    """
    try:
        with atomic.replaced(path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n")
            to_disk(partial)
        to_disk(path.parent)
    except OSError as error:
        raise OutputFailed(f"{path} cannot be written: {cause(error)}") from error


def to_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def cause(error: Exception) -> str:
    """The message of the operating system, or of ArrayRecord without its source lines."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).split(";")[0]
