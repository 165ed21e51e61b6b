"""Paths of remote storage (``gs://``, ``s3://``), which this package does not read or write."""

import os
import re

from fgmm.config.option import ConfigError

# One slash is enough: ``Path("gs://bucket")`` has lost the other.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def refuse(path: str | os.PathLike[str], name: str) -> None:
    """Checks that a path is on a file system of this machine.

    A run locks its folder, appends to files and renames them. Buckets do not support that.

    Args:
      path: as the user gave it.
      name: the flag or key with that value, for the error.

    Raises:
      ConfigError: the path is on remote storage, such as ``gs://bucket/run``.
    """
    if found := _SCHEME.match(os.fspath(path)):
        raise ConfigError(
            f"{name}={os.fspath(path)}: {found[1]}:// is remote storage, which is not read or "
            "written; mount it (gs:// with gcsfuse, s3:// with mountpoint-s3), or use a file "
            "system that all processes share"
        )
