"""HowTo100M (Miech et al., ICCV 2019, arXiv 1906.03327), or any corpus laid out as it is.

::

    HowTo100M_v1.csv             video_id,category_1,category_2,rank,task_id
    videos/.../nVbIUDjzWY4.mp4   in folders or not, of any container
    captions/nVbIUDjzWY4.csv     start,end,text in seconds; or one raw_caption.json

A list may name files instead, in a column ``video_path`` or ``path``, below ``videos``.
"""

import collections
import csv
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.data.corpora import files, narrations
from fgmm.data.corpora.windows import Narrated, Window
from fgmm.data.media import av_files
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Clip, Waveform
from fgmm.data.sources.video_folder import ENDINGS, SPLITS, place
from fgmm.data.text.texts import Texts

_PATH_COLUMNS = ("video_path", "path")
# Of the files that a list names, so many are looked for at once.
_LOOKED_FOR = 1000
# Bytes of a video's id at most, where files are found by it; YouTube's have 11.
_NAME_BYTES = 64


class Raw:
    """The videos of a split as they lie on disk, each with all its narration.

    Attributes:
      videos: the ids, in the order of the list.
      report: as that of ``Source``.
    """

    splits = SPLITS

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        validation: float = 0.001,
        listing: str = "HowTo100M_v1.csv",
        videos: str = "videos",
        captions: str = "captions",
    ):
        """Reads the list and, where that names no files, the folder's names.

        Args:
          root, split, validation, listing, videos, captions: as ``Source`` takes them.

        Raises:
          ConfigError: an unknown split, or something of the layout is missing.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
        if not 0 <= validation < 1:
            raise ConfigError(f"validation={validation!r} must be a share from 0 to below 1")
        parts = {"root": root, "listing": listing, "videos": videos, "captions": captions}
        self.listing, video_path, caption_path = _layout(**parts)
        self.report: collections.Counter[str] = collections.Counter()
        self.folder = files.Folder(video_path)
        self.videos, self._paths = Texts(), Texts()
        for name, path in _listed(self.listing, self.folder, self.report):
            if (place(name) < validation) == (split == "validation"):
                self.videos.append(name)
                self._paths.append(path)
        self._captions = (
            narrations.CsvFolder(caption_path)
            if caption_path.is_dir()
            else narrations.JsonFile(caption_path)
        )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> RawRecord:
        name, path = self.videos[index], self.folder.path / self._paths[index]
        spoken, left_out = self.narration(index)
        return RawRecord(name, path, "video", spoken, group=name, problems=left_out)

    def recording(self, index: int) -> av_files.Recording:
        """The file of a video."""
        return av_files.Recording(self.folder, self._paths[index])

    def narration(self, index: int) -> narrations.Narration:
        """All that is said in a video; nothing, with the reason, where it cannot be read."""
        try:
            return self._captions.read(self.videos[index])
        except BadInput as error:
            return (), collections.Counter({error.reason: 1})


class Source:
    """A clip is a video: a stretch around one of its narrations, and the narrations nearest to it.

    ``source[i]`` takes the narration in the middle and the window in the middle of its stretch;
    ``source.draw(i, rng)``, which training calls, draws both. An epoch is thus one clip of every
    video, as in MIL-NCE. A video without narration gives windows from anywhere in it.

    Neither videos nor captions are opened before they are read: those that are missing or broken
    are masked then, and counted. Can be pickled, and read by many threads.

    Attributes:
      videos: the ids of this split, in the order of the list.
      report: entries of the list left out: ``missing_file``, no such file is below ``videos``;
        ``malformed_line``, it has no id or a path that leads out of the folder.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        validation: float = 0.001,
        listing: str = "HowTo100M_v1.csv",
        videos: str = "videos",
        captions: str = "captions",
        seconds: float = 3.2,
        fps: float = 10.0,
        size: int = 224,
        candidates: int = 4,
        minimum: float = 4.0,
    ):
        """Opens the corpus: reads the list and, where that names no files, the folder's names.

        Args:
          root: the folder of the corpus.
          split: ``train`` or ``validation``.
          validation: share of the videos in that split, decided by each video's id alone.
          listing, videos, captions: the list, the folder of videos, and the folder of captions or
            the JSON file with all of them; below ``root``, or anywhere if absolute.
          seconds: of a window.
          fps: pictures a second.
          size: pictures are shrunk to this many pixels on the shorter side while decoding.
          candidates: K narrations of a clip at most, as ``narrations.nearest`` finds them.
          minimum: seconds to which the stretch of a shorter narration is widened, to both sides
            alike; a window is taken from within it.

        Raises:
          ConfigError: an unknown split, something of the layout is missing, no listed video is
            there or in the split, or an option that makes no sense.
        """
        numbers = {"seconds": seconds, "fps": fps, "size": size, "candidates": candidates}
        for key, value in numbers.items():
            if not value > 0:
                raise ConfigError(f"{key}={value!r} must be greater than 0")
        if minimum < 0:
            raise ConfigError(f"minimum={minimum!r} must be at least 0")
        self._raw = Raw(
            root=root,
            split=split,
            validation=validation,
            listing=listing,
            videos=videos,
            captions=captions,
        )
        self.videos, self.report = self._raw.videos, self._raw.report
        self._window = Narrated(seconds, minimum, candidates)
        self._frames, self._size = max(1, round(seconds * fps)), size
        recordings = (self._raw.recording(i) for i in range(min(_LOOKED_FOR, len(self))))
        if not any(recording.name in self._raw.folder for recording in recordings):
            reasons = "".join(f"; {reason} {n}" for reason, n in sorted(self.report.items()))
            raise ConfigError(
                f"listing={str(self._raw.listing)!r} has no video of split {split!r} with "
                f"validation={validation} that is in {str(self._raw.folder.path)!r}{reasons}"
            )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Clip:
        return self._clip(index, None)

    def draw(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip of a video around a narration that ``rng`` draws."""
        return self._clip(index, rng)

    def _clip(self, index: int, rng: np.random.Generator | None) -> Clip:
        index = range(len(self))[index]
        spoken, left_out = self._raw.narration(index)
        window, near = self._window(spoken, rng)
        read = {"recording": self._raw.recording(index), "window": window}
        name = self.videos[index]
        return Clip(
            clip_id=name,
            video=av_files.Pictures(
                functools.partial(_frames, **read, count=self._frames, size=self._size)
            ),
            audio=functools.partial(_sound, **read),
            captions=near,
            group=name,
            problems=tuple(sorted(left_out)),
        )


def _start(recording: av_files.Recording, window: Window) -> float:
    duration = recording.header().duration if window.start is None else 0.0
    return window.begins(duration)


def _frames(recording: av_files.Recording, window: Window, **options: Any) -> np.ndarray:
    start = _start(recording, window)
    return recording.frames(start=start, seconds=window.seconds, **options)


def _sound(recording: av_files.Recording, window: Window) -> Waveform:
    return recording.sound(start=_start(recording, window), seconds=window.seconds)


def _layout(root: str, **parts: str) -> list[pathlib.Path]:
    """The paths of the parts, all of which exist."""
    if not root or not os.path.isdir(root):
        raise ConfigError(
            f"root={root!r} is no folder; give the one with HowTo100M's list, videos and captions, "
            "as fgmm/data/sources/howto100m.py shows them"
        )
    paths = []
    for key, name in parts.items():
        paths.append(path := pathlib.Path(root, name))
        exists = {"listing": path.is_file, "videos": path.is_dir, "captions": path.exists}[key]
        if not name or not exists():
            kind = {"listing": "file", "videos": "folder", "captions": "folder or JSON file"}[key]
            raise ConfigError(f"{key}={name!r}: there is no {kind} {str(path)!r}")
    return paths


def _listed(
    listing: pathlib.Path, folder: files.Folder, report: collections.Counter[str]
) -> Iterator[tuple[str, str]]:
    """Ids of the listed videos with their files' paths below the folder."""
    try:
        with open(listing, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(line.replace("\0", "") for line in file)
            columns = rows.fieldnames or ()
            path_column = next((column for column in _PATH_COLUMNS if column in columns), None)
            if path_column is None and "video_id" not in columns:
                raise ConfigError(
                    f"listing={str(listing)!r} has none of the columns video_id, "
                    f"{', '.join(_PATH_COLUMNS)}; its first line must name them"
                )
            find = None if path_column else _Finder(folder)
            for row in rows:
                path = (row[path_column] or "").strip() if path_column else ""
                name = (row.get("video_id") or pathlib.PurePosixPath(path).stem).strip()
                if not _plain(name) or "/" in name or (path_column and not _plain(path)):
                    report["malformed_line"] += 1
                elif path := path or find(name):
                    yield name, path
                else:
                    report["missing_file"] += 1
    except (OSError, csv.Error) as error:
        raise ConfigError(f"listing={str(listing)!r} cannot be read ({error})") from error


def _plain(path: str) -> bool:
    """Whether it is a path that stays where it is put."""
    return bool(path) and not os.path.isabs(path) and ".." not in path.split("/")


class _Finder:
    """Paths of the video files below a folder, by their names without ending."""

    def __init__(self, folder: files.Folder):
        self._paths = Texts()
        names = np.fromiter(self._walked(folder.path), f"S{_NAME_BYTES}")
        self._order = np.argsort(names, kind="stable")
        self._names = names[self._order]

    def __call__(self, name: str) -> str:
        """The first in alphabetic order; empty where there is none."""
        key = name.encode("utf-8", "surrogateescape")
        found = int(np.searchsorted(self._names, key))
        if len(key) > _NAME_BYTES or found == len(self._names) or self._names[found] != key:
            return ""
        return self._paths[int(self._order[found])]

    def _walked(self, root: pathlib.Path) -> Iterator[bytes]:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                stem, ending = os.path.splitext(name)
                key = os.fsencode(stem)
                if ending.lower() in ENDINGS and len(key) <= _NAME_BYTES:
                    self._paths.append(os.path.relpath(os.path.join(folder, name), root))
                    yield key
