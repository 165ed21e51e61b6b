"""The files of a corpus, read by name from a folder or straight out of an archive."""

import collections
import json
import os
import pathlib
import posixpath
import stat
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fgmm.config import ConfigError
from fgmm.data.schema import BadInput

VIDEO_ENDINGS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".webm", ".wmv"),
)
SOUND_ENDINGS = (".aac", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav")
IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_ZIP_METHODS = {zipfile.ZIP_STORED: False, zipfile.ZIP_DEFLATED: True}
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name
_LONGEST_LINK = 4096
_LARGEST = 1 << 31  # bytes of an inflated member; more would fill the memory


class Folder:
    """The files below a folder, by their relative path with ``/``."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path).absolute()

    def __contains__(self, name: str) -> bool:
        # Unlike pathlib's, this is False for names that no file can have.
        return not leads_out(name) and os.path.isfile(self.path / name)

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError or another OSError."""
        # ``exists``, since a folder of that name is not missing: reading it raises another OSError.
        if leads_out(name) or not os.path.exists(self.path / name):
            raise FileNotFoundError(f"{self.path} has no file {name!r}")
        return (self.path / name).read_bytes()

    def stat(self, name: str) -> tuple[int, int]:
        """The size of a file in bytes and the time of its last change in seconds; (-1, 0) if the
        file is missing.
        """
        try:
            found = os.stat(self.path / name)
        except (OSError, ValueError):
            return -1, 0
        return found.st_size, int(found.st_mtime)

    def names(self) -> Iterator[str]:
        """The names of all files, folder by folder, but for files and folders with a leading dot.

        Links to folders are followed last, in order. A folder that was visited before, by another
        link or without one, is not visited again.
        """
        waiting, found = [self.path], {_identity(self.path)}
        for link in waiting:
            if link is not self.path:
                if _identity(link) in found:
                    continue
                found.add(_identity(link))
            links = []
            for folder, folders, names in os.walk(link):
                shown = sorted(name for name in folders if not name.startswith("."))
                paths = {name: pathlib.Path(folder, name) for name in shown}
                links += [path for path in paths.values() if path.is_symlink()]
                folders[:] = [name for name, path in paths.items() if not path.is_symlink()]
                found |= {_identity(paths[name]) for name in folders}
                above = pathlib.Path(folder).relative_to(self.path)
                for name in sorted(names):
                    if not name.startswith("."):
                        yield (above / name).as_posix()
            waiting += links

    def folders(self) -> list[str]:
        """The names of the folders at the top."""
        return sorted(path.name for path in self.path.glob("*") if path.is_dir())

    def below(self, folder: str) -> "Folder":
        """The files below one of its folders."""
        return Folder(self.path / folder)


def _identity(folder: pathlib.Path) -> tuple[int, int]:
    """Device and inode of a folder, the same by whatever path it is found."""
    try:
        state = folder.stat()
    except OSError:  # it has just gone, or cannot be looked at
        return 0, 0
    return state.st_dev, state.st_ino


class _Member(NamedTuple):
    offset: int  # of the stored bytes
    stored: int  # how many bytes are stored
    size: int  # how many they are when inflated
    deflated: bool


class Archive:
    """The members of an uncompressed tar file or a zip file, by name.

    A link to a member counts as a copy of it. A link to a folder is skipped: its files are found
    under their own names.

    Members are found once, when the archive is opened, and then read in place, by any number of
    threads. An archive can be pickled, so processes can share it too.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens an archive.

        Raises:
          ConfigError: the archive is missing, damaged, or compressed as a whole; a member is a
            device, a pipe, a sparse file or encrypted; or a member's name, or the target of a link,
            leads out of the archive.
        """
        self.path = pathlib.Path(path).absolute()
        try:
            self._open()
            is_zip = os.pread(self._file, 4, 0) == b"PK\3\4"
            members = _zip_members(self.path) if is_zip else _tar_members(self.path)
            end = os.fstat(self._file).st_size
            self._members = _followed(
                {
                    name: member if isinstance(member, str) else _whole(name, member, end)
                    for name, member in members
                }
            )
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

    def stat(self, name: str) -> tuple[int, int]:
        """As ``Folder.stat``; members have the time of the archive."""
        if name not in self._members:
            return -1, 0
        return self._members[name].size, int(os.fstat(self._file).st_mtime)

    def names(self) -> Iterator[str]:
        """The names of all members in alphabetic order, but for files and folders with a leading
        dot.
        """
        for name in sorted(self._members):
            if not any(part.startswith(".") for part in name.split("/")):
                yield name

    def folders(self) -> list[str]:
        """The names of the folders at the top."""
        return sorted({name.split("/")[0] for name in self._members if "/" in name})

    def below(self, folder: str) -> "Archive":
        """The members below one of its folders."""
        within = {
            name.removeprefix(f"{folder}/"): member
            for name, member in self._members.items()
            if name.startswith(f"{folder}/")
        }
        part = Archive.__new__(Archive)
        part.__setstate__({"path": self.path, "_members": within})
        return part

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises FileNotFoundError or another OSError."""
        if name not in self._members:
            raise FileNotFoundError(f"{self.path} has no member {name!r}")
        member = self._members[name]
        data = _stretch(self._file, member.stored, member.offset)
        if len(data) < member.stored:
            raise OSError(f"{self.path} ends within its member {name!r}")
        if not member.deflated:
            return data
        if member.size > _LARGEST:
            raise OSError(f"{self.path}: member {name!r} of {member.size} bytes is too large")
        try:
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size)
        except zlib.error as error:
            raise OSError(f"{self.path}: member {name!r} is damaged ({error})") from error
        if len(inflated) < member.size:
            raise OSError(f"{self.path}: member {name!r} is damaged (it is too short)")
        return inflated


def _stretch(file: int, size: int, offset: int) -> bytes:
    """Bytes of a file; fewer if it ends. One read has at most 2 GiB."""
    parts = []
    while size and (part := os.pread(file, size, offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


# Where the files of a corpus are.
Corpus = Folder | Archive
# What was left out of a corpus, by reason.
Report = collections.Counter[str]


def open_files(path: str | os.PathLike[str]) -> Corpus:
    """The files of a folder, a tar file or a zip file.

    Raises:
      ConfigError: it does not exist or cannot be read.
    """
    return Folder(path) if os.path.isdir(path) else Archive(path)


def state(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The size of a file in bytes and the time of its last change in nanoseconds; (-1, 0) if the
    file is missing.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns


def leads_out(name: str) -> bool:
    """Whether a relative name would lead out of the folder that it is relative to."""
    return posixpath.isabs(name) or ".." in name.split("/")


def within(corpus: Corpus, name: str) -> str:
    """A listed name as the corpus has it; an absolute path below its folder becomes relative."""
    above = f"{corpus.path}/"
    return name.removeprefix(above) if isinstance(corpus, Folder) else name


def rooted(corpus: Corpus, name: str) -> Corpus:
    """The corpus below the folder that has the file ``name``: the top, or the only folder at the
    top that has it, since many archives unpack into a folder. The whole corpus if neither has it.
    """
    above = [folder for folder in corpus.folders() if f"{folder}/{name}" in corpus]
    return corpus.below(above[0]) if name not in corpus and len(above) == 1 else corpus


def find(corpus: Corpus, names: Sequence[str]) -> list[str]:
    """The paths of all files with these names, in any folder, in the order of ``names``."""
    places: dict[str, list[str]] = {name: [] for name in names}
    for path in corpus.names():
        if (name := posixpath.basename(path)) in places:
            places[name].append(path)
    return [path for name in names for path in places[name]]


def stems(corpus: Corpus, endings: Sequence[str], report: Report) -> dict[str, str]:
    """The paths of files with these endings, by their names without folder and ending. Of equal
    names the first file counts; ``report`` counts the others as ``duplicate_id``.
    """
    paths: dict[str, str] = {}
    for path in corpus.names():
        stem, ending = posixpath.splitext(posixpath.basename(path))
        if ending.lower() in endings and paths.setdefault(stem, path) != path:
            report["duplicate_id"] += 1
    return paths


def is_utf8(text: str) -> bool:
    """Whether UTF-8 has all letters of a text. Others stand for bytes of a name that is no UTF-8,
    or are half a pair of surrogates.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def words(text: str) -> str:
    """A label, or other text written by hand, with each run of white space as one space."""
    return " ".join(text.split())


def path_or_contents(corpus: Corpus, name: str, reason: str) -> pathlib.Path | bytes:
    """The path of a file of a folder, which may be missing; or the contents of an archive's member.

    Raises:
      BadInput: ``missing_file``, also if the name leads out of the folder; ``reason`` if the
        archive cannot be read there.
    """
    if isinstance(corpus, Folder) and not leads_out(name):
        return corpus.path / name
    return contents(corpus, name, reason)


def contents(corpus: Corpus, name: str, reason: str) -> bytes:
    """The contents of a file.

    Raises:
      BadInput: ``missing_file``, also if the name leads out of the corpus; ``reason`` if it cannot
        be read.
    """
    try:
        return corpus.read(name)
    except FileNotFoundError as error:
        raise BadInput("missing_file", name) from error
    except OSError as error:
        raise BadInput(reason, str(error)) from error


def read_text(corpus: Corpus, name: str) -> str:
    """The text of a file that the corpus must have, in UTF-8.

    Raises:
      ConfigError: it is missing, or no UTF-8.
    """
    try:
        return corpus.read(name).decode("utf-8-sig").replace("\0", "")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"root={str(corpus.path)!r} has no readable {name} ({error})") from error


def read_json(corpus: Corpus, name: str) -> Any:
    """As ``read_text``, parsed.

    Raises:
      ConfigError: it is missing, or no JSON.
    """
    text = read_text(corpus, name)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"root={str(corpus.path)!r}: {name} is no JSON ({error})") from error


def _tar_members(path: pathlib.Path) -> Iterator[tuple[str, _Member | str]]:
    """Yields (name, member), and for a link (name, target); targets are from the archive's top."""
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.issparse() or member.isdev():
                kind = "a sparse file" if member.issparse() else "a device or a pipe"
                raise tarfile.TarError(f"member {member.name!r} is {kind}")
            name = _inside(path, member.name)
            if member.issym():
                yield name, _target(path, name, posixpath.dirname(name), member.linkname)
            elif member.islnk():  # targets of hard links are from the top of the archive
                yield name, _target(path, name, "", member.linkname)
            elif member.isreg():
                yield name, _Member(member.offset_data, member.size, member.size, False)


def _zip_members(path: pathlib.Path) -> Iterator[tuple[str, _Member | str]]:
    """As ``_tar_members``."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for info in archive.infolist():
            name = _inside(path, info.filename)
            if info.filename.endswith("/"):
                continue
            if info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
                raise zipfile.BadZipFile(
                    f"member {info.filename!r} is encrypted, or compressed by a method other than "
                    "deflate"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                target = archive.read(info)[:_LONGEST_LINK].decode("utf-8", "replace")
                yield name, _target(path, name, posixpath.dirname(name), target)
                continue
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER)
            lengths = struct.unpack("<HH", header[26:30])
            offset = info.header_offset + _LOCAL_HEADER + sum(lengths)
            deflated = _ZIP_METHODS[info.compress_type]
            yield name, _Member(offset, info.compress_size, info.file_size, deflated)


def _whole(name: str, member: _Member, end: int) -> _Member:
    """The member; refuses one that ends after the archive."""
    if not 0 <= member.offset <= member.offset + member.stored <= end:
        raise tarfile.TarError(f"it ends within its member {name!r}")
    return member


def _inside(path: pathlib.Path, name: str) -> str:
    """The name without ``./``; refuses one that would leave the folder it is extracted to."""
    if leads_out(name):
        raise ConfigError(f"archive {str(path)!r} has a member with the unsafe name {name!r}")
    return posixpath.normpath(name)


def _target(path: pathlib.Path, name: str, folder: str, target: str) -> str:
    """Where a link leads to, from the top of the archive; refuses one that leads out of it."""
    found = posixpath.normpath(posixpath.join(folder, target))
    if leads_out(found):
        raise ConfigError(
            f"archive {str(path)!r} has a link {name!r} that leads out, to {target!r}"
        )
    return found


def _followed(entries: Mapping[str, _Member | str]) -> dict[str, _Member]:
    """Members by name. Links to members become these; other links are left out."""
    members = {}
    for name, entry in entries.items():
        passed = set()
        while isinstance(entry, str) and entry not in passed:  # links may go in circles
            passed.add(entry)
            entry = entries.get(entry)
        if isinstance(entry, _Member):
            members[name] = entry
    return members
