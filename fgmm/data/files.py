"""The files of a corpus, read by name from a folder or straight out of an archive."""

import os
import pathlib
import posixpath
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from fgmm.config import ConfigError

_ZIP_METHODS = {zipfile.ZIP_STORED: False, zipfile.ZIP_DEFLATED: True}
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name


class Folder:
    """The files below a folder, by their relative path with ``/``."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path).absolute()

    def __contains__(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError or another OSError."""
        return (self.path / name).read_bytes()


class _Member(NamedTuple):
    offset: int  # of the stored bytes
    stored: int  # how many bytes are stored
    size: int  # how many they are when inflated
    deflated: bool


class Archive:
    """The members of an uncompressed tar file or a zip file, by name.

    Members are found once, when the archive is opened, and then read from where they lie: from any
    number of threads, and, since an archive can be pickled, of processes.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens an archive.

        Raises:
          ConfigError: it is missing, damaged, compressed as a whole, or has a member whose name
            leads out of the archive.
        """
        self.path = pathlib.Path(path).absolute()
        try:
            self._open()
            is_zip = os.pread(self._file, 4, 0) == b"PK\3\4"
            members = _zip_members(self.path) if is_zip else _tar_members(self.path)
            self._members = {_inside(self.path, name): member for name, member in members}
        except (OSError, tarfile.TarError, zipfile.BadZipFile, struct.error) as error:
            raise ConfigError(
                f"archive {str(self.path)!r} cannot be read ({error}); it must be an uncompressed "
                "tar file or a zip file"
            ) from error

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __getstate__(self) -> dict:
        return {"path": self.path, "_members": self._members}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises FileNotFoundError or another OSError."""
        if name not in self._members:
            raise FileNotFoundError(f"{self.path} has no member {name!r}")
        member = self._members[name]
        data = os.pread(self._file, member.stored, member.offset)
        if len(data) < member.stored:
            raise OSError(f"{self.path} ends within its member {name!r}")
        if not member.deflated:
            return data
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size)
        except zlib.error as error:
            raise OSError(f"{self.path}: member {name!r} is damaged ({error})") from error


def open_files(path: str | os.PathLike[str]) -> Folder | Archive:
    """The files of a folder, a tar file or a zip file.

    Raises:
      ConfigError: there is no such thing, or it cannot be read.
    """
    return Folder(path) if os.path.isdir(path) else Archive(path)


def _tar_members(path: pathlib.Path) -> Iterator[tuple[str, _Member]]:
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.issparse():
                raise tarfile.TarError(f"member {member.name!r} is stored as a sparse file")
            if member.isreg():
                yield member.name, _Member(member.offset_data, member.size, member.size, False)


def _zip_members(path: pathlib.Path) -> Iterator[tuple[str, _Member]]:
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
                raise zipfile.BadZipFile(f"member {info.filename!r} is encrypted or not deflated")
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER)
            name, extra = struct.unpack("<HH", header[26:30])
            offset = info.header_offset + _LOCAL_HEADER + name + extra
            deflated = _ZIP_METHODS[info.compress_type]
            yield info.filename, _Member(offset, info.compress_size, info.file_size, deflated)


def _inside(path: pathlib.Path, name: str) -> str:
    """The name without ``./``; refuses one that would leave the folder it is extracted to."""
    if posixpath.isabs(name) or ".." in name.split("/"):
        raise ConfigError(f"archive {str(path)!r} has a member with the unsafe name {name!r}")
    return posixpath.normpath(name)
