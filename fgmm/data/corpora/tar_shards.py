"""Tar shards in the layout of WebDataset: the members of a sample share their name up to its first
dot, and the ending after it says what each is. Members are found once, and read in place.
"""

import collections
import hashlib
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from fgmm.config import ConfigError
from fgmm.data import bad_input
from fgmm.data.corpora import files, row_index
from fgmm.data.corpora.pairs import kind_of
from fgmm.data.corpora.source import place
from fgmm.data.fingerprint import digest
from fgmm.data.media import joined
from fgmm.data.schema import BadInput

ENDING = ".tar"
# Endings of members with captions, metadata or the class of a sample.
TEXTS = ("txt", "json", "cls")
_MEMBER = pa.struct([("ending", pa.string()), ("first", pa.int64()), ("size", pa.int64())])
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("group", pa.string()),
        ("kind", pa.string()),
        ("members", pa.list_(_MEMBER)),
        (row_index.PLACE, pa.float64()),
    ]
)

# How a compressed file begins, and the program that unpacks it.
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}
# video2dataset names the clips that it cut out of a video KEY_00000, KEY_00001 and so on.
_CUT = re.compile(r"(.+)_\d+")
# Greater class numbers are taken for damage.
_MOST_CLASSES = 1 << 20
# Members of a sample with fewer bytes between them are read in one call.
_NEAR = 1 << 16
# A longer text, or list of captions, is damage.
_LARGEST_TEXT = 1 << 26


class Member(NamedTuple):
    """A member of a shard, as it lies there. A shard that changed after it was indexed is not read.

    Attributes:
      path: of the shard.
      state: of the shard when it was indexed, as ``files.state``.
      first, size: the place of its first byte in the shard, and the number of its bytes.
    """

    path: str
    state: tuple[int, int]
    first: int
    size: int

    def media(self, reason: str) -> joined.Part:
        """The part of the shard. Raises ``BadInput``: ``missing_file`` or ``unreadable_record``."""
        del reason
        now = files.state(self.path)
        if now[0] < 0:
            raise BadInput("missing_file", self.path)
        _demand_same(self, now)
        return joined.Part(self.path, self.first, self.first + self.size, now[1])


def contents(members: Mapping[str, Member]) -> dict[str, bytes]:
    """The contents of members of one shard, by ending.

    Raises:
      BadInput: as ``Member.media``.
    """
    if not members:
        return {}
    any_of_them = next(iter(members.values()))
    try:
        with open(any_of_them.path, "rb", buffering=0) as opened:
            file = opened.fileno()
            now = os.fstat(file)
            _demand_same(any_of_them, (now.st_size, now.st_mtime_ns))
            start = min(member.first for member in members.values())
            end = max(member.first + member.size for member in members.values())
            if end - start > _NEAR + sum(member.size for member in members.values()):
                return {e: os.pread(file, m.size, m.first) for e, m in members.items()}
            data = os.pread(file, end - start, start)
            places = {e: (m.first - start, m.first - start + m.size) for e, m in members.items()}
            return {e: data[first:past] for e, (first, past) in places.items()}
    except FileNotFoundError as error:
        raise BadInput("missing_file", any_of_them.path) from error
    except OSError as error:
        raise BadInput("unreadable_record", str(error)) from error


def _demand_same(member: Member, state: tuple[int, int]) -> None:
    """Raises ``BadInput`` unless a shard is as it was indexed."""
    if state != member.state:
        raise BadInput("unreadable_record", f"{member.path} has changed since it was indexed")


def samples(path: str, folder: str) -> Iterator[row_index.Rows]:
    """The samples of a shard as rows of ``SCHEMA``, in one batch.

    Args:
      path: of the shard.
      folder: that its path in the ids of samples is relative to.

    Yields:
      The rows, and facts on them: ``ids`` and ``texts``, digests; ``classes``, one more than the
      greatest number in a ``.cls``; and ``report``, which counts samples without media, or a
      missing shard, as ``missing_file``; members with the key and ending of an earlier one as
      ``duplicate_id``; members that are no files as ``malformed_line``; and the shard itself as
      ``unreadable_record`` if it is damaged or cut off, where its samples end.

    Raises:
      ConfigError: the shard is compressed, or no tar file.
    """
    report = files.Report()
    rows: dict[str, list] = {name: [] for name in SCHEMA.names}
    said, classes = hashlib.sha256(), 0
    if not os.path.exists(path):
        report["missing_file"] += 1
        yield rows, {"report": report}
        return
    shard = shard_name(os.path.relpath(path, folder))
    with _file(path) as file:
        for key, members in _gathered(file, path, report).items():
            media = _media(members)
            if not media:
                report["missing_file"] += 1
                continue
            texts = {ending: _read(file, members[ending]) for ending in TEXTS if ending in members}
            for text in texts.values():
                said.update(text + b"\0")
            classes = max(classes, number_of(texts.get("cls", b"")) + 1)
            group = _group(key, texts.get("json", b""))
            rows["key"].append(key)
            rows["group"].append(group)
            rows["kind"].append(kind_of(f".{media[0]}"))
            rows["members"].append(
                [
                    {"ending": ending, "first": members[ending][0], "size": members[ending][1]}
                    for ending in (*media, *texts)
                ]
            )
            rows[row_index.PLACE].append(place(f"{shard}/{group or key}"))
    yield (
        rows,
        {
            "ids": digest(f"{shard}/{key}" for key in rows["key"]),
            "texts": said.hexdigest()[:16],
            "classes": classes,
            "report": report,
        },
    )


def shard_name(file: str) -> str:
    """The name of a shard in the ids of its samples: its path without the ending."""
    return file.removesuffix(ENDING)


def number_of(text: bytes) -> int:
    """The class number in a ``.cls``; -1 if there is none."""
    try:
        found = int(text.decode())
    except ValueError:
        return -1
    return found if 0 <= found < _MOST_CLASSES else -1


def members_of(row: Mapping[str, Any], path: str, state: tuple[int, int]) -> dict[str, Member]:
    """The members of a row of ``SCHEMA``, by ending; media come first."""
    return {
        member["ending"]: Member(path, state, member["first"], member["size"])
        for member in row["members"]
    }


def _file(path: str) -> BinaryIO:
    """The opened shard.

    Raises:
      ConfigError: it is compressed, or cannot be read.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        head = file.read(8)
    except OSError as error:
        raise ConfigError(f"shard {path!r} cannot be read ({error})") from error
    for magic, remedy in _COMPRESSED.items():
        if head.startswith(magic):
            raise ConfigError(
                f"shard {path!r} is compressed, so its members cannot be read where they lie; "
                f"unpack the shards with {remedy}, which leaves plain {ENDING} files"
            )
    return file


def _gathered(
    file: BinaryIO, path: str, report: files.Report
) -> dict[str, dict[str, tuple[int, int]]]:
    """Where the members of each sample are, (first byte, size) by key and ending, in order."""
    found: dict[str, dict[str, tuple[int, int]]] = collections.defaultdict(dict)
    end = os.fstat(file.fileno()).st_size
    file.seek(0)
    whole = 0  # bytes up to which the shard is whole
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # they would fill the memory
                past = member.offset_data + member.size
                if past > end:
                    break
                if member.isreg() and not member.issparse() and files.is_utf8(member.name):
                    key, ending = _key(member.name)
                    if ending in found[key]:
                        report["duplicate_id"] += 1
                    found[key].setdefault(ending, (member.offset_data, member.size))
                elif not member.isdir():
                    report["malformed_line"] += 1
                whole = -(-past // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    except tarfile.TarError as error:
        if not whole:
            raise ConfigError(
                f"shard {path!r} is no tar file ({error}); remove it, or make it again"
            ) from error
    # Some writers leave out the two empty blocks at the end.
    file.seek(whole)
    if whole > end or any(file.read(tarfile.BLOCKSIZE)):
        report["unreadable_record"] += 1
        bad_input.tell("unreadable_record", path, f"damaged or cut off after {whole} bytes")
    return {key: members for key, members in found.items() if set(members) - {""}}


def _key(name: str) -> tuple[str, str]:
    """The key and the ending of a member."""
    folder, base = posixpath.split(posixpath.normpath(name))
    stem, _, ending = base.partition(".")
    return posixpath.join(folder, stem), ending.lower()


def _media(members: Mapping[str, tuple[int, int]]) -> list[str]:
    """The endings of a sample's media: those of its video and of the sound beside it, if any; or
    else that of its picture or sound.
    """
    of_kinds = {
        kind: [ending for ending in members if kind_of(f".{ending}") == kind]
        for kind in ("video", "image", "audio")
    }
    if of_kinds["video"]:
        return of_kinds["video"][:1] + of_kinds["audio"][:1]
    return (of_kinds["image"] or of_kinds["audio"])[:1]


def _group(key: str, text: bytes) -> str:
    """The key of the video that video2dataset cut a sample out of; empty where it did not."""
    cut = _CUT.fullmatch(key)
    if not cut or b'"clips"' not in text:
        return ""
    try:
        clips = json.loads(text)["clips"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return ""
    return cut[1] if isinstance(clips, list) and len(clips) == 1 else ""


def _read(file: BinaryIO, member: tuple[int, int]) -> bytes:
    first, size = member
    return os.pread(file.fileno(), min(size, _LARGEST_TEXT), first)
