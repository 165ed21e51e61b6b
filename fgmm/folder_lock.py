"""Folders in which one program works at a time."""

import fcntl
import os
import pathlib
import socket
from typing import TextIO

from fgmm.config import ConfigError


def locked(folder: pathlib.Path, flag: str) -> TextIO:
    """Makes a folder and locks it for this process.

    Args:
      folder: the folder. The lock is on the file ``.lock`` in it, which says who has it.
      flag: the flag that names the folder, for errors.

    Returns:
      The open file. The lock goes when it is closed, or when this process ends in any way.

    Raises:
      ConfigError: another live process has the lock, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise ConfigError(f"{flag}={folder} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise ConfigError(
            f"{flag}={folder} is in use by a live process ({holder}): "
            f"stop it or give another {flag.lstrip('-')}"
        ) from error
    file.truncate(0)
    file.write(f"{socket.gethostname()}, pid {os.getpid()}")
    file.flush()
    return file
