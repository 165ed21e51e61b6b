"""Paths of remote storage, which this package neither reads nor writes by itself."""

import os
import re

from fgmm.config.option import ConfigError

# A path object has lost one of the two slashes.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def refuse(path: str | os.PathLike[str], name: str) -> None:
    """Checks that a path is one of this machine's file systems.

    A run locks its folder, adds lines to files in it and renames them, which buckets cannot do.

    Args:
      path: as it was given.
      name: of the flag or key that it was given to.

    Raises:
      ConfigError: it is of remote storage, such as ``gs://bucket/run``.
    """
    if found := _SCHEME.match(os.fspath(path)):
        raise ConfigError(
            f"{name}={os.fspath(path)}: {found[1]}:// is remote storage, which is not read or "
            "written; mount it (gs:// with gcsfuse, s3:// with mountpoint-s3), or use a file "
            "system that all processes share"
        )
