"""Files damaged at random: what bad disks, broken copies and hostile uploads do to them."""

import copy
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

# Numbers that programs trust too readily, and what stands for them in text.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (
    *(b"", b"-1", b"nan", b"inf", b"1e308", b"-0", b"0x10", b"9" * 40, b"null", b"true", b"{}"),
    *(b"[]", b'"', b"\0", b"\r", b",", b"\xff\xfe", b"\xed\xa0\x80", b"../../etc/passwd"),
    *(b"/etc/passwd", b"[" * 3000, b"=1+1", b"-->", b"00:00:00.000 --> 99:99:99.999", b"\t"),
)
_VALUES = (
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**40, 2**63, "", "a", "../a", "/etc"),
    *("\0", "\ud800", "nan", [], {}, [[]], [0, 1], [1, 0], {"a": 1}, ["a"], "x" * 5000),
)
# What a file of any format may hold instead of what it should: the beginnings of others.
_GARBAGE = (b"RIFF", b"\x1aE\xdf\xa3", b"OggS", b"\xff\xd8\xff\xe0", b"ftypisom", b"PK\3\4", b"{[")
# Boxes of MP4 by their names, each behind four bytes of its size.
_BOX = re.compile(
    rb"(?:moov|trak|mdia|minf|stbl|stsd|stts|ctts|stsc|stsz|stco|co64|stss|mdhd|mvhd|tkhd|hdlr|elst"
    rb"|edts|avcC|esds|mp4a|mp4v|avc1|mdat|free|udta|meta|moof|traf|trun|trex|sidx|sgpd|sbgp|dref)"
)
# Blocks that damage comes in, in bytes.
_LONGEST = 4096

Mutator = Callable[[bytearray, random.Random], None]


def damaged(data: bytes, seed: str) -> tuple[bytes, str]:
    """Bytes with one to four pieces of damage, the same for the same seed.

    Returns:
      The bytes, and the names of what was done to them.
    """
    rng = random.Random(seed)
    result, done = bytearray(data), []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = data[:1].isascii() and b"\0" not in data[:256]
        mutate = rng.choice(_GENTLE if text and rng.random() < 0.5 else MUTATORS)
        mutate(result, rng)
        done.append(mutate.__name__)
    # Damage from before the checksums were made reaches further.
    if rng.random() < 0.5:
        repair_checksums(result)
    return bytes(result), "+".join(done)


def repair_checksums(data: bytearray) -> None:
    """Makes the checksums of Ogg's pages and PNG's chunks right again."""
    for found in re.finditer(rb"OggS", data):
        start = found.start()
        lengths = (
            data[start + 27 : start + 27 + data[start + 26]] if start + 26 < len(data) else b""
        )
        end = start + 27 + len(lengths) + sum(lengths)
        if lengths and end <= len(data):
            data[start + 22 : start + 26] = bytes(4)
            data[start + 22 : start + 26] = _ogg_checksum(data[start:end]).to_bytes(4, "little")
    for found in re.finditer(rb"IHDR|IDAT|PLTE|tRNS|eXIf|iCCP|tEXt|zTXt", data):
        start = found.start()
        end = start + 4 + int.from_bytes(data[max(0, start - 4) : start], "big")
        if end + 4 <= len(data):
            data[end : end + 4] = zlib.crc32(data[start:end]).to_bytes(4, "big")


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_OGG_TABLE = _ogg_table()


def _ogg_checksum(page: bytes) -> int:
    """RFC 3533, section 6."""
    value = 0
    for byte in page:
        value = (value << 8) & 0xFFFFFFFF ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def _stretch(data: bytearray, rng: random.Random) -> slice:
    """A part of the data: often near its beginning, where headers are, and more often short."""
    reach = len(data) if rng.random() < 0.7 else min(len(data), 256)
    start = rng.randrange(reach + 1)
    return slice(start, start + int(max(4, min(_LONGEST, len(data) // 4)) ** rng.random()))


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Up to 16 bits are the other way round."""
    for _ in range(rng.randint(1, 16) if data else 0):
        data[_stretch(data[:-1], rng).start] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    """Other bytes in place of a stretch."""
    part = _stretch(data, rng)
    data[part] = rng.randbytes(len(data[part]))


def zero(data: bytearray, rng: random.Random) -> None:
    """A stretch was never written."""
    part = _stretch(data, rng)
    data[part] = bytes(len(data[part]))


def truncate(data: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del data[rng.randrange(len(data) + 1) :]


def delete(data: bytearray, rng: random.Random) -> None:
    """A stretch is missing."""
    del data[_stretch(data, rng)]


def duplicate(data: bytearray, rng: random.Random) -> None:
    """A stretch comes twice, or a hundred times."""
    part = _stretch(data, rng)
    data[part.stop : part.stop] = data[part] * rng.choice((1, 1, 100))


def swap(data: bytearray, rng: random.Random) -> None:
    """Two stretches have changed places."""
    first, second = sorted((_stretch(data, rng) for _ in range(2)), key=lambda part: part.start)
    first = slice(first.start, min(first.stop, second.start))
    before, after = bytes(data[first]), bytes(data[second])
    data[second] = before
    data[first] = after


def insert(data: bytearray, rng: random.Random) -> None:
    """Bytes that do not belong there, or the beginning of another format."""
    start = _stretch(data, rng).start
    data[start:start] = rng.choice((rng.choice(_GARBAGE), rng.randbytes(rng.randint(1, 64))))


def inflate(data: bytearray, rng: random.Random) -> None:
    """A number of one, two or four bytes, of either order, is one at the edge of its range."""
    start, size = _stretch(data, rng).start, rng.choice((1, 2, 4))
    number = rng.choice(_NUMBERS) & (1 << 8 * size) - 1
    data[start : start + size] = number.to_bytes(size, rng.choice(("big", "little")))


def resize_part(data: bytearray, rng: random.Random) -> None:
    """The size that a box of MP4, an element of EBML, a page of Ogg or a segment of JPEG states,
    or one of the first numbers in it, is too large or too small.
    """
    boxes = [(found.start() - 4, 4) for found in _BOX.finditer(data)]
    boxes += [(found.start() + 5, 4) for found in re.finditer(rb"OggS", data)]
    boxes += [
        (found.end(), 1) for found in re.finditer(rb"\x1a\x45\xdf\xa3|\x18\x53\x80\x67", data)
    ]
    boxes += [(found.end(), 2) for found in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    if not boxes:
        inflate(data, rng)
        return
    start, size = rng.choice(boxes)
    start = max(0, start + rng.choice((0, 0, *range(8, 40, 4))))
    old = int.from_bytes(data[start : start + size], "big")
    new = rng.choice((*_NUMBERS, old + 1, max(0, old - 1), 2 * old, old << 8))
    data[start : start + size] = struct.pack(">Q", new & (1 << 8 * size) - 1)[-size:]


def replace_word(data: bytearray, rng: random.Random) -> None:
    """A number or a word of text is another, or stands where none did."""
    words = list(re.finditer(rb"[\w.:/-]+", data[:20_000]))
    part = slice(*rng.choice(words).span()) if words else _stretch(data, rng)
    data[part] = rng.choice(_WORDS)


def replace_value(data: bytearray, rng: random.Random) -> None:
    """A value of JSON is of another kind; in other text a word is another."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        replace_word(data, rng)
        return
    places = list(_places(content))
    if places:
        holder, key = rng.choice(places)
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice((*_VALUES, content)))
    data[:] = json.dumps(content).encode()


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in JSON, as what holds it and where."""
    if isinstance(content, dict | list):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from _places(content[key])


MUTATORS: tuple[Mutator, ...] = (
    *(flip_bits, overwrite, zero, truncate, delete, duplicate, swap, insert, inflate),
    *(resize_part, replace_word, replace_value),
)
# Of text most of these leave nothing that could be parsed; these do.
_GENTLE: tuple[Mutator, ...] = (flip_bits, replace_word, replace_value, inflate)
