"""Corpora of labelled recordings: a table that names files, and windows of those files."""

import collections
import csv
import functools
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fgmm.config import ConfigError
from fgmm.data import files, media
from fgmm.data.schema import BadInput, Clip


class Entry(NamedTuple):
    """A recording of a corpus: the name of its file, its labels and its group."""

    name: str
    labels: Mapping[str, int]
    group: str


class LabelledRecordings:
    """A source of windows of recordings, several of each, spread from its start to its end.

    Windows of one recording are neighbours and share its name as ``clip_id``. A recording without a
    stream of sound has no audio. Can be pickled, and read by many threads.

    Attributes:
      report: recordings left out, by reason: ``missing_file``; ``unreadable_video`` or
        ``unreadable_audio`` where the file is damaged; ``no_video`` or ``no_audio`` where it lacks
        what is wanted; ``malformed_line`` where its name leads out of the corpus.
    """

    def __init__(
        self,
        corpus: files.Folder | files.Archive,
        entries: Iterable[Entry],
        report: collections.Counter[str],
        *,
        windows: int,
        seconds: float,
        frames: int = 0,
        size: int = 0,
    ):
        """Reads the headers of the files.

        Args:
          corpus: where the files are.
          entries: the recordings.
          report: to be continued.
          windows: of each recording.
          seconds: of a window.
          frames: T, pictures of a window; 0 for sound alone.
          size: the shorter side of the pictures, as in ``media.read_frames``.

        Raises:
          ConfigError: no recording can be read.
        """
        self.report = report
        self._windows, self._seconds = windows, seconds
        self._frames, self._size = frames, size
        self._recordings: list[tuple[Entry, media.Recording, media.Header]] = []
        wanted = "video" if frames else "audio"
        for entry in entries:
            if os.path.isabs(entry.name) or ".." in entry.name.split("/"):
                report["malformed_line"] += 1
                continue
            recording = media.Recording(corpus, entry.name)
            try:
                header = recording.header(f"unreadable_{wanted}")
                if not getattr(header, wanted):
                    raise BadInput(f"no_{wanted}", entry.name)
                self._recordings.append((entry, recording, header))
            except BadInput as error:
                report[error.reason] += 1
        if not self._recordings:
            reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(report.items()))
            raise ConfigError(
                f"{str(corpus.path)!r} has no readable recording ({reasons or 'none'})"
            )

    def __len__(self) -> int:
        return len(self._recordings) * self._windows

    def __getitem__(self, index: int) -> Clip:
        number, window = divmod(range(len(self))[index], self._windows)
        entry, recording, header = self._recordings[number]
        start = media.window_start(header.duration, self._seconds, window, self._windows)
        stretch = {"start": start, "seconds": self._seconds}
        video = audio = None
        if self._frames:
            pictures = {"count": self._frames, "size": self._size}
            video = functools.partial(recording.frames, **stretch, **pictures)
        if header.audio:
            audio = functools.partial(recording.sound, **stretch)
        return Clip(
            clip_id=entry.name, video=video, audio=audio, labels=entry.labels, group=entry.group
        )


def open_root(root: str, layout: str) -> files.Folder | files.Archive:
    """The files of a corpus.

    Args:
      root: a folder, or a tar or zip file.
      layout: of it, for the error.

    Raises:
      ConfigError: it does not exist or cannot be read.
    """
    if not root or not os.path.exists(root):
        raise ConfigError(
            f"root={root!r} does not exist; give the folder or archive of the corpus: {layout}"
        )
    return files.open_files(root)


def read_table(
    corpus: files.Folder | files.Archive,
    name: str,
    columns: tuple[str, ...],
    report: collections.Counter[str],
) -> list[dict[str, str]]:
    """The rows of a CSV file whose first line names its columns.

    Args:
      corpus: where the file is.
      name: of the file.
      columns: that it must have; others are left out.
      report: counts rows without all of them as ``malformed_line``.

    Raises:
      ConfigError: the file is missing, no UTF-8, or lacks a column.
    """
    where = f"root={str(corpus.path)!r}"
    try:
        lines = corpus.read(name).decode("utf-8-sig").replace("\0", "").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} has no readable {name} ({error})") from error
    reader = csv.DictReader(lines)
    for column in columns:
        if column not in (reader.fieldnames or ()):
            raise ConfigError(f"{where}: {name} has no column {column!r}")
    rows = []
    for row in reader:
        if all(row[column] for column in columns):
            rows.append({column: row[column] for column in columns})
        else:
            report["malformed_line"] += 1
    return rows


def demand_positive(**options: int | float) -> None:
    """Raises ConfigError, naming the option, unless all are greater than 0."""
    for key, value in options.items():
        if not value > 0:
            raise ConfigError(f"{key}={value!r} must be greater than 0")
