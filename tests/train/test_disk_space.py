import errno
import os

import pytest

from fgmm.train.disk_space import DiskFull, full_disk_named


def fails(workdir, error, cause=None):
    with full_disk_named(workdir, workdir / "checkpoints"):
        raise error from cause


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_however_it_is_said(tmp_path, number):
    words = os.strerror(number)
    plain = OSError(number, words)
    with pytest.raises(DiskFull, match=rf"--workdir={tmp_path} .*nothing was saved yet"):
        fails(tmp_path, plain)
    (tmp_path / "checkpoints" / "30").mkdir(parents=True)
    with pytest.raises(DiskFull, match="step 30 is saved"):
        fails(tmp_path, RuntimeError("the save failed"), cause=plain)
    with pytest.raises(DiskFull, match="start the same command again"):
        fails(tmp_path, ValueError(f"RESOURCE_EXHAUSTED: writing a file: {words}"))


def test_the_disk_of_another_file_is_named(tmp_path):
    other = str(tmp_path / "other" / "cache")
    with pytest.raises(DiskFull, match=f"on the disk of {other} "):
        fails(tmp_path / "run", RuntimeError("no"), cause=OSError(errno.ENOSPC, "full", other))


def test_what_else_goes_wrong_is_left_as_it_is(tmp_path):
    with pytest.raises(OSError, match="Permission denied"):
        fails(tmp_path, OSError(errno.EACCES, "Permission denied"))
    with pytest.raises(ValueError, match="of its own"):
        fails(tmp_path, ValueError("of its own"))
