"""Reports a full disk in one line."""

import contextlib
import errno
import pathlib
import shutil
from collections.abc import Iterator

from fgmm.train import recovery

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The messages of the C library: TensorStore passes on only these.
_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


class DiskFull(RuntimeError):
    """The disk is full. What was saved before is intact."""


@contextlib.contextmanager
def full_disk_named(workdir: pathlib.Path, checkpoints: pathlib.Path) -> Iterator[None]:
    """Turns whatever a writer raises on a full disk into one line.

    Args:
      workdir: of the run.
      checkpoints: the folder of its checkpoints.

    Raises:
      DiskFull: an exception of the body says that a disk or a quota is full, or a file too large.
    """
    try:
        yield
    except Exception as error:
        if (cause := _full(error)) is None:
            raise
        newest = next(iter(recovery.steps(checkpoints)), None)
        saved = "nothing was saved yet" if newest is None else f"step {newest} is saved"
        file = getattr(cause, "filename", None)
        known = isinstance(file, str)
        path = pathlib.Path(file if known else workdir).absolute()
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free / 1e6
        where = file if known else f"--workdir={workdir}"
        raise DiskFull(
            f"no space left to write to on the disk of {where} ({free:.1f} MB free); "
            f"{saved}. Make space, or raise the quota, and start the same command again"
        ) from error


def _full(error: BaseException | None) -> BaseException | None:
    """The exception, or the cause of it, that says that a disk is full; None without one."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        if any(words in str(error) for words in _WORDS):
            return error
        error = error.__cause__ or error.__context__
    return None
