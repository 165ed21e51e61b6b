"""Corpora of labelled recordings: lists of files with labels, and windows of these files."""

import array
import concurrent.futures
import csv
import dataclasses
import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tqdm

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data import bad_input
from fgmm.data.corpora import files
from fgmm.data.corpora.source import SECONDS, FileSource, left_out
from fgmm.data.fingerprint import Members
from fgmm.data.media import av_files
from fgmm.data.media.stretch import Recording, Stretch, even_start, share_start
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Clip
from fgmm.data.text.texts import Texts

# Headers that are read at the same time.
_THREADS = 8


class Entry(NamedTuple):
    """A recording of a corpus: the name of its file, its labels and its group."""

    name: str
    labels: Mapping[str, int | tuple[int, ...]]
    group: str


class Listing(NamedTuple):
    """What the lists of a corpus say.

    Attributes:
      corpus: where the files are.
      entries: the recordings of a split, in order.
      classes: names of the classes of each kind of label, by label.
      report: what was left out, by reason; readers of the corpus add to it.
    """

    corpus: files.Corpus
    entries: Sequence[Entry]
    classes: Mapping[str, tuple[str, ...]]
    report: files.Report

    def safe(self) -> list[Entry]:
        """The entries to be read, one for each file. The report counts names that lead out of the
        corpus as ``malformed_line``, and further entries of a file as ``duplicate_id``.
        """
        safe: dict[str, Entry] = {}
        for entry in self.entries:
            if files.leads_out(entry.name):
                self.report["malformed_line"] += 1
            elif safe.setdefault(entry.name, entry) is not entry:
                self.report["duplicate_id"] += 1
        return list(safe.values())


class RawRecordings:
    """The recordings of a listing as they lie on disk, for ``fgmm.data.prepare``.

    Attributes:
      names: of the files.
      classes, report: as in ``Listing``.
    """

    def __init__(self, listing: Listing, kind: str = "video"):
        """Opens nothing.

        Args:
          listing: with one kind of label.
          kind: of the files, as in ``RawRecord``.
        """
        (self._label,) = listing.classes
        self.classes, self._corpus, self._kind = listing.classes, listing.corpus, kind
        entries = listing.safe()
        self.names = Texts(entry.name for entry in entries)
        self._groups = Texts(entry.group for entry in entries)
        labels = [entry.labels[self._label] for entry in entries]
        one = not any(isinstance(label, tuple) for label in labels)
        self._labels = array.array("q", labels) if one else labels
        self.report = +listing.report

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> RawRecord:
        name = self.names[index]
        return RawRecord(
            name,
            files.path_or_contents(self._corpus, name, f"unreadable_{self._kind}"),
            self._kind,
            labels={self._label: self._labels[index]},
            group=self._groups[index],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledRecordings(FileSource):
    """A source of windows of recordings, several of each, spread from its start to its end.

    Windows of one recording are neighbours and share its name as ``clip_id``. A recording without a
    stream of sound has no audio. Can be pickled, and read by many threads.

    Attributes:
      kind: ``video`` or ``audio``: what the files are. Clips of sound files have no video.
      classes: as in ``Listing``.
      report: recordings left out, by reason: ``missing_file``; ``unreadable_video`` or
        ``unreadable_audio`` if the file is damaged; ``too_slow`` if it takes long to open;
        ``no_video`` or ``no_audio`` if it has no stream of its ``kind``; ``malformed_line`` if its
        name leads out of the corpus; ``duplicate_id`` if the same file was listed before.
    """

    windows: int = option(
        1,
        low=0,
        help="Clips of each recording, from its start to its end; one is in its middle. 0: one,"
        " which training draws anew from anywhere in it every time.",
    )
    seconds: float = option(2.0, above=0, help=SECONDS)

    kind: ClassVar[str] = "video"
    of_clips: ClassVar[tuple[str, ...]] = ("windows", "seconds")

    def raw(self) -> RawRecordings:
        """The recordings as they lie on disk, for ``fgmm.data.prepare``."""
        # A listing of its own, as that of the clips has counted what is left out already.
        return RawRecordings(self.listed(), self.kind)

    def open(self) -> None:
        """Reads the lists, and the headers of the files."""
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if not self.windows:
            object.__setattr__(self, "draw", self._draw)
        if not self._recordings:
            raise ConfigError(
                f"{str(self._listed.corpus.path)!r} has no readable recording "
                f"({left_out(self.report) or 'its lists are empty'})"
            )

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        return self._listed.classes

    @functools.cached_property
    def _recordings(self) -> list[tuple[Entry, Recording, av_files.Header]]:
        """The recordings that can be read."""
        safe = self._listed.safe()
        recordings = [Recording(self._listed.corpus, entry.name) for entry in safe]
        headers = readable(recordings, self.kind, self.report)
        found = zip(safe, recordings, headers, strict=True)
        return [(entry, recording, header) for entry, recording, header in found if header]

    def members(self) -> Members:
        """The recordings that can be read."""
        names = (entry.name for entry, _, _ in self._recordings)
        return Members(self._listed.corpus, ((name, name) for name in names))

    def __len__(self) -> int:
        return len(self._recordings) * max(1, self.windows)

    def __getitem__(self, index: int) -> Clip:
        windows = max(1, self.windows)
        number, window = divmod(range(len(self))[index], windows)
        duration = self._recordings[number][2].duration
        return self._clip(number, even_start(duration, self.seconds, window, windows))

    def _draw(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip of a recording with a window that ``rng`` draws."""
        index = range(len(self))[index]
        duration = self._recordings[index][2].duration
        return self._clip(index, share_start(duration, self.seconds, float(rng.random())))

    def _clip(self, number: int, start: float) -> Clip:
        entry, recording, header = self._recordings[number]
        stretch = Stretch(recording, start, self.seconds)
        return Clip(
            clip_id=entry.name,
            video=stretch if self.kind == "video" else None,
            audio=stretch.sound if header.audio else None,
            labels=entry.labels,
            group=entry.group,
        )


def readable(
    recordings: Sequence[Recording], wanted: str, report: files.Report
) -> list[av_files.Header | None]:
    """The headers of recordings; None for those that cannot be used, which the report counts.

    Args:
      recordings: of a corpus.
      wanted: ``video`` or ``audio``: the stream that each must have.
      report: counts the others: ``missing_file``, ``too_slow``, and ``unreadable_`` or ``no_`` with
        what is wanted.
    """

    def read(recording: Recording) -> av_files.Header | BadInput:
        try:
            return recording.header(f"unreadable_{wanted}")
        except BadInput as error:
            return error

    headers: list[av_files.Header | None] = []
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        shown = {"desc": "headers", "unit": "", "delay": 3, "leave": False, "disable": None}
        read_headers = tqdm.tqdm(pool.map(read, recordings), total=len(recordings), **shown)
        for recording, header in zip(recordings, read_headers, strict=True):
            if isinstance(header, BadInput):
                report[header.reason] += 1
                bad_input.tell(header.reason, recording.name, str(header))
                header = None
            elif not getattr(header, wanted):
                report[f"no_{wanted}"] += 1
                header = None
            headers.append(header)
    return headers


def open_root(root: str, layout: str, landmark: str = "") -> files.Corpus:
    """The files of a corpus.

    Args:
      root: a folder, or a tar or zip file.
      layout: of it, for the error.
      landmark: a file at the top of the corpus; if it is in a folder there instead, that folder is
        the corpus.

    Raises:
      ConfigError: it does not exist or cannot be read.
    """
    if not root or not os.path.exists(root):
        raise ConfigError(
            f"root={root!r} does not exist; give the folder or archive of the corpus: {layout}"
        )
    corpus = files.open_files(root)
    return files.rooted(corpus, landmark) if landmark else corpus


def find_table(corpus: files.Corpus, name: str, layout: str) -> str:
    """The path of a file that a corpus must have, in any folder.

    Raises:
      ConfigError: it has none of that name; ``layout`` says what it should be.
    """
    found = files.find(corpus, [name])
    if not found:
        raise ConfigError(f"root={str(corpus.path)!r} has no {name}; {layout}")
    return found[0]


def read_lines(corpus: files.Corpus, name: str) -> list[str]:
    """The lines of a text file that are not blank, stripped.

    Raises:
      ConfigError: the file is missing, or no UTF-8.
    """
    # Other signs that end lines for Python, such as U+2028, are part of the text.
    lines = map(str.strip, files.read_text(corpus, name).split("\n"))
    return [line for line in lines if line]


def read_table(
    corpus: files.Corpus,
    name: str,
    columns: tuple[str, ...],
    report: files.Report,
    optional: tuple[str, ...] = (),
) -> list[dict[str, str]]:
    """The rows of a CSV file whose first line names its columns, without white space around names
    and values.

    Args:
      corpus: where the file is.
      name: of the file.
      columns: that it must have.
      report: counts rows without all of them as ``malformed_line``.
      optional: columns that are empty where the file lacks them. Columns in neither list are left
        out.

    Raises:
      ConfigError: the file is missing, no UTF-8, no CSV, or lacks a column.
    """
    text = io.StringIO(files.read_text(corpus, name), newline="")
    reader = csv.DictReader(text, skipinitialspace=True)
    where = f"root={str(corpus.path)!r}: {name}"
    rows = []
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for column in columns:
            if column not in reader.fieldnames:
                raise ConfigError(f"{where} has no column {column!r}")
        for row in reader:
            values = {column: (row.get(column) or "").strip() for column in (*columns, *optional)}
            if all(values[column] for column in columns):
                rows.append(values)
            else:
                report["malformed_line"] += 1
    except csv.Error as error:
        raise ConfigError(f"{where}, line {reader.line_num}, is no CSV ({error})") from error
    return rows
