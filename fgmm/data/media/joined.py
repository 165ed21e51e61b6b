"""Finds where recordings begin that were joined end to end in one file.

The clock of such a file starts again with each recording, so one time is in several places: FFmpeg
may find one of them for the pictures and another for the sound. Each recording is therefore read by
itself. In MPEG transport and program streams a recording begins where the clock goes back; in MP4,
AVI, Matroska and FLV, at another file header. Other formats are not searched.
"""

import functools
import io
import itertools
import os
import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fgmm.data.media import deadline

# Stretches of a file in which the clock is read; a restart between two is found by bisection.
_LOOKS = 32
# Bytes of a stretch: 0.1 s, the time between two stamps of the clock, at 30 Mbit/s.
_STRETCH = 3 << 17
# Ticks (90,000 a second) after which the clock wraps to 0.
_WRAP = 1 << 33
# Ticks by which stamps may go back within a recording.
_JITTER = 9_000
# Lengths of the packets of a transport stream, with the place of the sync byte in a packet.
_PACKETS = {188: 0, 192: 4, 204: 0}
# Packets in a row that must have a sync byte to show where packets begin.
_IN_STEP = 5
_SYNC = 0x47
_PACK = b"\0\0\1\xba"
_PACK_BYTES = 10
# The header of Matroska, and the element that holds all of a recording.
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_DOCUMENTS = re.compile(re.escape(_EBML) + rb".{0,64}\x42\x82.(?:matroska|webm)", re.DOTALL)
# The header of FLV with the length of the tag before the first, which is 0 (Adobe, "Flash Video
# File Format Specification" 10.1, annex E).
_FLV = re.compile(rb"FLV\x01[\x00\x01\x04\x05]\x00\x00\x00\x09\x00{4}")
_LONGEST_BEGINNING = 128
# Boxes at the top level of an MP4 file; more are taken for damage.
_MOST_BOXES = 100_000


class Part(NamedTuple):
    """A recording within a file on disk.

    Attributes:
      path: of the file.
      first, past: the index of its first byte, and of the byte after its last.
      modified: the time of the file's last change, in nanoseconds.
    """

    path: str
    first: int
    past: int
    modified: int

    def open(self) -> io.BufferedReader:
        """The bytes of the part, as a file."""
        return io.BufferedReader(_View(self))


class _View(io.RawIOBase):
    def __init__(self, part: Part):
        self._file, self._part, self._at = os.open(part.path, os.O_RDONLY), part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self._part.past - self._part.first
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        return self._at

    def readinto(self, out) -> int:
        place = self._part.first + self._at
        data = os.pread(self._file, max(0, min(len(out), self._part.past - place)), place)
        out[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


# A path, the contents of a file, or a part of a file.
Media = str | os.PathLike[str] | bytes | Part


def parts(media: Media) -> tuple[Media, ...]:
    """The recordings that a file holds, in order; the file itself if it holds only one.

    Raises:
      OSError: the file cannot be read.
    """
    if isinstance(media, Part):
        return (media,)
    if isinstance(media, bytes):
        bounds = (0, *_starts(io.BytesIO(media), len(media)), len(media))
        return tuple(media[first:past] for first, past in itertools.pairwise(bounds))
    path, state = os.fspath(media), os.stat(media)
    starts = _starts_of_path(path, state.st_size, state.st_mtime_ns)
    bounds = itertools.pairwise((0, *starts, state.st_size))
    found = tuple(Part(path, first, past, state.st_mtime_ns) for first, past in bounds)
    return found if starts else (media,)


@functools.lru_cache(maxsize=1 << 16)
def _starts_of_path(path: str, size: int, modified: int) -> tuple[int, ...]:
    del modified  # a changed file is searched again
    with open(path, "rb") as file:
        return _starts(file, size)


def _starts(file: io.BufferedIOBase, size: int) -> tuple[int, ...]:
    """Where recordings after the first begin."""
    head = file.read(max(_PACKETS) * (_IN_STEP + 1))
    if head[4:8] == b"ftyp":
        return tuple(_mp4_starts(file, size))
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return tuple(_avi_starts(file, size))
    if head.startswith(_EBML):
        return tuple(_matroska_starts(file, size))
    if _FLV.match(head):
        return tuple(_headers(file, _FLV, 1))
    if head.startswith(_PACK):
        return tuple(_Clock(file, size, _program_stamps).restarts())
    for length, shift in _PACKETS.items():
        if head[shift : _IN_STEP * length : length] == bytes([_SYNC]) * _IN_STEP:
            stamps_of = functools.partial(_transport_stamps, length)
            return tuple(_Clock(file, size, stamps_of).restarts())
    return ()


def _mp4_starts(file: io.BufferedIOBase, size: int) -> Iterator[int]:
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        header = file.read(16)
        if len(header) < 16 or at >= size:
            return
        length, kind, long = struct.unpack(">I4sQ", header)
        if kind == b"ftyp" and at:
            yield at
        length = long if length == 1 else length
        if length < 8:  # the last one, or damage
            return
        at += length


def _avi_starts(file: io.BufferedIOBase, size: int) -> Iterator[int]:
    at = 0
    while at + 12 <= size:
        file.seek(at)
        kind, length, form = struct.unpack("<4sI4s", file.read(12))
        if kind != b"RIFF":
            return
        if form == b"AVI " and at:  # AVIX continues a large recording
            yield at
        at += 8 + length + length % 2


def _matroska_starts(file: io.BufferedIOBase, size: int) -> Iterator[int]:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(_LONGEST_BEGINNING)
        if not head.startswith(_EBML):
            return
        if at:
            yield at
        segment = len(_EBML) + sum(_number(head, len(_EBML)) or (0, 0))
        length = _number(head, segment + len(_SEGMENT))
        if not head.startswith(_SEGMENT, segment):
            return
        if length is None:  # unknown when the header was written
            yield from _headers(file, _DOCUMENTS, at + segment)
            return
        at += segment + len(_SEGMENT) + sum(length)


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    """An EBML number (RFC 8794, section 4) as (bytes that it takes, value); None for an unknown
    length.
    """
    width = 9 - data[at].bit_length() if at < len(data) else 1
    ones = (1 << 7 * width) - 1
    number = int.from_bytes(data[at : at + width], "big") & ones
    return None if number == ones else (width, number)


def _headers(file: io.BufferedIOBase, pattern: re.Pattern[bytes], first: int) -> Iterator[int]:
    """The offsets of file headers from byte ``first`` on; all bytes are read."""
    file.seek(first)
    kept = b""
    while data := file.read(_STRETCH):
        deadline.check()
        data = kept + data
        past = max(0, len(data) - _LONGEST_BEGINNING)
        for found in pattern.finditer(data):
            yield first + found.start()
            past = max(past, found.end())
        kept, first = data[past:], first + past


class _Stamp(NamedTuple):
    """A stamp of the clock.

    Attributes:
      at: the byte where it is.
      ticks: the time.
      start: the byte where its recording begins, if this is the recording's first stamp.
    """

    at: int
    ticks: int
    start: int

    def back_to(self, later: "_Stamp") -> bool:
        """Whether the clock goes back from this stamp to one that comes later in the file."""
        return _WRAP // 2 < (later.ticks - self.ticks) % _WRAP < _WRAP - _JITTER


class _Clock:
    """The clock of a file.

    ``stamps_of`` finds the stamps in a stretch of its bytes.
    """

    def __init__(
        self, file: io.BufferedIOBase, size: int, stamps_of: Callable[[bytes], Iterator[_Stamp]]
    ):
        self._file, self._size, self._stamps_of = file, size, stamps_of

    def restarts(self) -> Iterator[int]:
        """The bytes where recordings begin: where the stamps go back."""
        looks = min(_LOOKS, 1 + self._size // _STRETCH)
        last = None
        for first in np.linspace(0, max(0, self._size - _STRETCH), looks).astype(int).tolist():
            for stamp in self._stamps(first):
                if last is None or stamp.at > last.at:
                    if last is not None and last.back_to(stamp):
                        yield self._restart(last, stamp)
                    last = stamp

    def _restart(self, before: _Stamp, after: _Stamp) -> int:
        """Where the clock goes back between two stamps."""
        while after.at - before.at > _STRETCH:
            middle = self._stamps((before.at + after.at) // 2)
            if not middle or middle[0].at >= after.at:
                break
            if before.back_to(middle[0]):
                after = middle[0]
            else:
                before = middle[0]
        near = [stamp for stamp in self._stamps(before.at) if before.at < stamp.at <= after.at]
        for earlier, later in itertools.pairwise([before, *near]):
            if earlier.back_to(later):
                return later.start
        return after.start

    def _stamps(self, first: int) -> list[_Stamp]:
        self._file.seek(first)
        found = self._stamps_of(self._file.read(_STRETCH))
        return [_Stamp(first + s.at, s.ticks, first + s.start) for s in found]


def _program_stamps(data: bytes) -> Iterator[_Stamp]:
    """The system clock reference of each pack (ISO/IEC 13818-1 and 11172-1)."""
    at = data.find(_PACK)
    while 0 <= at <= len(data) - _PACK_BYTES:
        a, b, c, d, e = data[at + 4 : at + 9]
        if a >> 6 == 1:
            ticks = (a & 0x38) << 27 | (a & 3) << 28 | b << 20 | (c & 0xF8) << 12
            yield _Stamp(at, ticks | (c & 3) << 13 | d << 5 | e >> 3, at)
        elif a >> 4 == 2:
            yield _Stamp(at, (a & 0x0E) << 29 | b << 22 | (c & 0xFE) << 14 | d << 7 | e >> 1, at)
        at = data.find(_PACK, at + 1)


def _transport_stamps(length: int, data: bytes) -> Iterator[_Stamp]:
    """The program clock references (ISO/IEC 13818-1) of one program, that of the first reference:
    each program has its own clock.

    A recording begins with the list of its programs.
    """
    program = start = None
    for first, packets in _in_step(np.frombuffer(data, np.uint8), length):
        pid = (packets[:, 1] & 0x1F).astype(int) << 8 | packets[:, 2]
        stamped = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] >= 7) & (packets[:, 5] & 0x10 > 0)
        for i in np.flatnonzero(stamped | (pid == 0)).tolist():
            at = first + i * length - _PACKETS[length]
            if not pid[i]:
                start = at
            elif program in (None, pid[i]):
                program = pid[i]
                a, b, c, d, e = packets[i, 6:11].tolist()
                ticks = a << 25 | b << 17 | c << 9 | d << 1 | e >> 7
                yield _Stamp(at, ticks, at if start is None else start)
                start = None


def _in_step(data: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (place, packets): runs of packets [n,length], each packet from its sync byte on, and
    the byte where the run begins.
    """
    sync = data == _SYNC
    last = len(data) - _IN_STEP * length
    if last <= 0:
        return
    begin = np.flatnonzero(np.all([sync[i * length :][:last] for i in range(_IN_STEP)], axis=0))
    at = 0
    while (place := int(np.searchsorted(begin, at))) < len(begin):
        at = int(begin[place])
        count = (len(data) - at) // length
        rows = data[at : at + count * length].reshape(count, length)
        lost = np.flatnonzero(rows[:, 0] != _SYNC)
        count = int(lost[0]) if len(lost) else count
        yield at, rows[:count]
        at += count * length
