"""Narrations of very many videos, read one by one: from a folder of CSV files, or one JSON file.

No text is kept in memory. For a JSON file, memory holds the place of each video's part in it. These
places are found once, by reading the whole file, and stored beside it.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import mmap
import os
import pathlib
import re
import uuid
import zipfile
from collections.abc import Iterable, Iterator

import numpy as np
import tqdm
from jaxtyping import UInt64

from fgmm.config import ConfigError
from fgmm.data.corpora import files
from fgmm.data.schema import BadInput, Caption
from fgmm.data.text.captions import said, without_markup, without_repeats

COLUMNS = ("start", "end", "text")

# A video's part of the JSON file, by the digest of its name.
_PART = np.dtype([("name", "u8"), ("offset", "i8"), ("size", "i8")])
# One video of the JSON file: its name, and an object that holds no other objects.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_ENTRY = re.compile(
    rb"\s*+(" + _STRING + rb")\s*+:\s*+(\{(?:[^{}\"]++|" + _STRING + rb")*+\})\s*+([,}])", re.DOTALL
)
_START, _END = re.compile(rb"\s*+\{"), re.compile(rb"\s*+\}?\s*+\Z")

# What was read, and why rows were left out.
Narration = tuple[tuple[Caption, ...], files.Report]


class CsvFolder:
    """``NAME.csv`` for each video, with the columns ``start,end,text``."""

    def __init__(self, path: str | os.PathLike[str]):
        self._folder = files.Folder(path)

    def read(self, name: str) -> Narration:
        """The narration of a video in order of time, and what was left out of it.

        Raises:
          BadInput: ``missing_captions`` or ``unreadable_captions``.
        """
        spelled = (f"{name}{ending}" for ending in (".csv", ".CSV", ".Csv"))
        try:
            path = next((path for path in spelled if path in self._folder), f"{name}.csv")
            text = self._folder.read(path).decode("utf-8-sig").replace("\0", "")
        except FileNotFoundError as error:
            raise BadInput("missing_captions", str(error)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput("unreadable_captions", f"{name}: {error}") from error
        rows = csv.DictReader(io.StringIO(text))
        try:
            if not set(COLUMNS) <= set(rows.fieldnames or ()):
                raise BadInput("unreadable_captions", f"{name}: no columns {', '.join(COLUMNS)}")
            return checked([tuple(row[column] for column in COLUMNS) for row in rows])
        except csv.Error as error:
            raise BadInput("unreadable_captions", f"{name}: {error}") from error


class JsonFile:
    """``{NAME: {"start": [...], "end": [...], "text": [...]}, ...}``, of any size.

    ``PATH.index.npy`` says where each video's part lies; it is made again if it is missing or the
    file has changed. Can be pickled, and read by many threads.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file, with its index.

        Raises:
          ConfigError: it is not of this form.
        """
        self._path = pathlib.Path(path).absolute()
        self._parts = self._stored_parts()
        if self._parts is None:
            self._parts = self._found_parts()
            self._store()

    def read(self, name: str) -> Narration:
        """As ``CsvFolder.read``."""
        place = find(self._parts["name"], name)
        if place is None:
            raise BadInput("missing_captions", f"{self._path} has no {name!r}")
        try:
            with open(self._path, "rb") as file:
                file.seek(int(self._parts["offset"][place]))
                columns = json.loads(file.read(int(self._parts["size"][place])))
            rows = list(zip(*(columns[column] for column in COLUMNS), strict=False))
            longest = max(len(columns[column]) for column in COLUMNS)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInput("unreadable_captions", f"{name}: {error}") from error
        captions, left_out = checked(rows)
        left_out["malformed_line"] += longest - len(rows)
        return captions, +left_out

    @property
    def duplicates(self) -> int:
        """The number of entries with the name of an earlier entry. They are not read."""
        names = self._parts["name"]
        return int(np.count_nonzero(names[1:] == names[:-1]))

    @property
    def _index(self) -> pathlib.Path:
        return self._path.with_name(self._path.name + ".index.npy")

    def _state(self) -> np.ndarray:
        """Time and size of the file, in the form of the index's last entry."""
        state = self._path.stat()
        return np.array([(0, state.st_mtime_ns, state.st_size)], _PART)

    def _stored_parts(self) -> np.ndarray | None:
        try:
            stored = np.load(self._index, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        current = stored.dtype == _PART and len(stored) and stored[-1:] == self._state()
        return stored[:-1] if current else None

    def _store(self) -> None:
        """Writes the index as a whole, or not at all if it cannot be written there."""
        unfinished = self._index.with_name(f"{self._index.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            with open(unfinished, "wb") as file:
                np.save(file, np.concatenate([self._parts, self._state()]))
            os.replace(unfinished, self._index)
        with contextlib.suppress(OSError):
            unfinished.unlink()

    def _found_parts(self) -> np.ndarray:
        with open(self._path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise self._malformed(0)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                parts = np.fromiter(self._scanned(data), _PART)
        return parts[np.argsort(parts["name"], kind="stable")]

    def _scanned(self, data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
        start = _START.match(data)
        if not start:
            raise self._malformed(0)
        at, closed = start.end(), False
        with tqdm.tqdm(
            total=len(data), desc="captions", unit="B", unit_scale=True, delay=3, disable=None
        ) as shown:
            while not closed and (entry := _ENTRY.match(data, at)):
                name = digest(self._name(entry[1], at))
                yield name, entry.start(2), entry.end(2) - entry.start(2)
                closed = entry[3] == b"}"
                shown.update(entry.end() - at)
                at = entry.end()
        # Without any video, _END matches the brace that closes the file.
        if not _END.match(data, at) or (not closed and at != start.end()):
            raise self._malformed(at)

    def _name(self, quoted: bytes, at: int) -> str:
        try:
            return json.loads(quoted.decode("utf-8", "replace"))
        except ValueError as error:
            raise self._malformed(at) from error

    def _malformed(self, at: int) -> ConfigError:
        return ConfigError(
            f"captions={str(self._path)!r} is not of the form "
            f'{{id: {{"start": [...], "end": [...], "text": [...]}}, ...}} at byte {at}'
        )


def digest(name: str) -> int:
    """A digest of 64 bits for a name of any length. Those of millions of names all differ."""
    hashed = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "little")


def find(digests: UInt64[np.ndarray, "names"], name: str) -> int | None:
    """The place of the first digest of a name among sorted ones; None if it is not there."""
    key = np.uint64(digest(name))
    place = int(np.searchsorted(digests, key))
    return place if place < len(digests) and digests[place] == key else None


def seconds(time: str | int | float) -> float:
    """The seconds of a time that is a number, or written as hours:minutes:seconds. Raises
    ValueError or TypeError.
    """
    found = 0.0
    for part in time.split(":") if isinstance(time, str) else [time]:
        found = 60 * found + float(part)
    return found


def checked(rows: Iterable[tuple]) -> Narration:
    """Rows (start, end, text) as captions in order of time, cleaned as in ``captions.said`` and
    ``captions.without_repeats``.

    Returns:
      The captions, and what was left out: ``malformed_line`` counts rows whose times are no
      numbers, are negative or go backward, ``empty_caption`` those without words.
    """
    cues, left_out = [], files.Report()
    for start, end, text in rows:
        try:
            begin, stop = float(start), float(end)
        except (TypeError, ValueError):
            begin, stop = math.nan, math.nan
        lines = said(text) if isinstance(text, str) else []
        if not 0 <= begin <= stop < math.inf:
            left_out["malformed_line"] += 1
        elif not lines:
            left_out["empty_caption"] += 1
        else:
            cues.append((begin, stop, lines))
    return tuple(without_repeats(sorted(cues, key=lambda cue: cue[:2]))), left_out


def untimed(texts: Iterable[str], report: files.Report) -> tuple[Caption, ...]:
    """Texts as captions of a whole clip, without markup; ``report`` counts those without words as
    ``empty_caption``.
    """
    cleaned = [without_markup(text) for text in texts]
    if empty := cleaned.count(""):
        report["empty_caption"] += empty
    return tuple(Caption(text) for text in cleaned if text)


def nearest(captions: tuple[Caption, ...], index: int, count: int) -> tuple[int, int]:
    """The neighbours of a caption as (first, past the last), at most ``count`` with itself.

    They are added one by one on the side on which the stretch from the first start to the last end
    stays shorter, or on the right if both are equal (MIL-NCE, arXiv 1912.06430, section 3.1;
    ``_find_nearest_candidates`` in video_loader.py of github.com/antoine77340/MIL-NCE_HowTo100M,
    which repeats the last one at an end of the video, where this function returns fewer).
    """
    first, past = index, index + 1
    while past - first < min(count, len(captions)):
        left = captions[past - 1].end - captions[first - 1].start if first else math.inf
        right = captions[past].end - captions[first].start if past < len(captions) else math.inf
        if left < right:
            first -= 1
        else:
            past += 1
    return first, past
