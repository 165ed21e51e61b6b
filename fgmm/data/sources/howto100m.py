"""HowTo100M (Miech et al., ICCV 2019, arXiv 1906.03327), or any corpus laid out as it is.

::

    HowTo100M_v1.csv             video_id,category_1,category_2,rank,task_id
    videos/.../nVbIUDjzWY4.mp4   in folders or not, of any container
    captions/nVbIUDjzWY4.csv     start,end,text in seconds; or one raw_caption.json

A list may name files instead, in a column ``video_path`` or ``path``, below ``videos``.
"""

import csv
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, narrations
from fgmm.data.corpora.source import SECONDS, SplitByName, left_out
from fgmm.data.corpora.windows import NarrationWindows
from fgmm.data.fingerprint import Members
from fgmm.data.media.stretch import Recording
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Clip
from fgmm.data.text.texts import Texts

# Options that name a part of the corpus: how it is looked for, and what it is.
_PARTS = {
    "listing": (os.path.isfile, "file"),
    "videos": (os.path.isdir, "folder"),
    "captions": (os.path.exists, "folder or JSON file"),
}
_PATH_COLUMNS = ("video_path", "path")
# Files of the list that are looked for when the corpus is opened.
_LOOKED_FOR = 1000


class VideoList:
    """The videos of a split as they lie on disk, each with all its narration.

    Attributes:
      names: the ids, in the order of the list.
      folder: of the files.
      report: entries of the list left out.
    """

    def __init__(self, source: "Source"):
        """Reads the list and, where that names no files, the folder's names.

        Raises:
          ConfigError: something of the layout is missing.
        """
        self.listing, videos, captions = _layout(source)
        self.report = files.Report()
        self.folder = files.Folder(videos)
        self.names, self._paths = Texts(), Texts()
        known: set[int] = set()
        for name, path in _listed(self.listing, self.folder, self.report):
            if source.has(name):
                key = narrations.digest(name)
                if key in known:
                    self.report["duplicate_id"] += 1
                    continue
                known.add(key)
                self.names.append(name)
                self._paths.append(path)
        if captions.is_dir():
            self._captions = narrations.CsvFolder(captions)
        else:
            self._captions = narrations.JsonFile(captions)
            self.report["duplicate_id"] += self._captions.duplicates
        self.report = +self.report

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> RawRecord:
        name, path = self.names[index], self.folder.path / self._paths[index]
        spoken, missing = self.narration(index)
        return RawRecord(name, path, "video", spoken, group=name, problems=missing)

    def files(self) -> Iterator[tuple[str, str]]:
        """Ids with the paths of their files."""
        return zip(self.names, self._paths, strict=True)

    def recording(self, index: int) -> Recording:
        """The file of a video."""
        return Recording(self.folder, self._paths[index])

    def narration(self, index: int) -> narrations.Narration:
        """All narration of a video, and what was left out of it; none if it cannot be read."""
        try:
            return self._captions.read(self.names[index])
        except BadInput as error:
            return (), files.Report({error.reason: 1})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(SplitByName):
    """A clip is a stretch of a video around one narration, with the narrations nearest to it.

    ``source[i]`` takes the narration in the middle and the window in the middle of its stretch;
    ``source.draw(i, rng)``, which training calls, draws both. An epoch is thus one clip of every
    video, as in MIL-NCE. Without narration, the window is anywhere in the video.

    Videos and captions are opened when they are read. Missing and broken ones are masked and
    counted then. Can be pickled, and read by many threads.

    Attributes:
      names: the ids of this split, in the order of the list.
      report: entries of the list left out. ``missing_file``: there is no such file below
        ``videos``. ``malformed_line``: the entry has no id, or a path that leads out of the folder.
        ``duplicate_id``: an earlier entry has the id; files below ``videos``, and videos of the
        JSON file, that repeat a name are counted too.
    """

    validation: float = option(0.001, low=0, high=1, help="Share of the videos in that split.")
    listing: str = option(
        "HowTo100M_v1.csv", help="The list; below root, as the next two are, or anywhere."
    )
    videos: str = option("videos", help="The folder of the videos.")
    captions: str = option("captions", help="The folder of the captions, or one JSON file.")
    seconds: float = option(3.2, above=0, help=SECONDS)
    candidates: int = option(4, low=1, help="K narrations of a clip at most.")
    minimum: float = option(
        4.0, low=0, help="Seconds to which a shorter narration is widened before a window is taken."
    )

    of_clips: ClassVar[tuple[str, ...]] = ("seconds", "candidates", "minimum")

    def raw(self) -> VideoList:
        """The videos as they lie on disk, for ``fgmm.data.prepare``."""
        return self._listed

    def open(self) -> None:
        """Reads the list, and looks for its first files."""
        listed = self._listed
        first = itertools.islice(listed.files(), _LOOKED_FOR)
        if not any(path in listed.folder for _, path in first):
            raise ConfigError(
                f"listing={str(listed.listing)!r} has no video of split {self.split!r} with "
                f"validation={self.validation} that is in {str(listed.folder.path)!r}; change that "
                "share, or set it to 0 to train on all"
                + (f"; {left_out(self.report)}" if self.report else "")
            )

    def listed(self) -> VideoList:
        """Reads the list and, where that names no files, the folder's names."""
        return VideoList(self)

    @property
    def names(self) -> Texts:
        return self._listed.names

    def members(self) -> Members:
        """The videos."""
        return Members(self._listed.folder, self._listed.files())

    def __len__(self) -> int:
        return len(self._listed)

    def __getitem__(self, index: int) -> Clip:
        return self.draw(index, None)

    def draw(self, index: int, rng: np.random.Generator | None) -> Clip:
        """The clip of a video around a narration that ``rng`` draws; the middle one without it."""
        index = range(len(self))[index]
        spoken, missing = self._listed.narration(index)
        window = NarrationWindows(self.seconds, self.minimum, self.candidates)
        stretch, near = window(self._listed.recording(index), spoken, rng)
        name = self.names[index]
        return Clip(
            clip_id=name,
            video=stretch,
            audio=stretch.sound,
            captions=near,
            group=name,
            problems=tuple(sorted(missing)),
        )


def _layout(source: Source) -> list[pathlib.Path]:
    """The paths of the parts, all of which exist."""
    root = source.root
    if not root or not os.path.isdir(root):
        raise ConfigError(
            f"root={root!r} is no folder; give the one with HowTo100M's list, videos and captions, "
            "as fgmm/data/sources/howto100m.py shows them"
        )
    paths = []
    for key, (exists, kind) in _PARTS.items():
        name = getattr(source, key)
        paths.append(path := pathlib.Path(root, name))
        if not name or not exists(path):
            raise ConfigError(f"{key}={name!r}: there is no {kind} {str(path)!r}")
    return paths


def _listed(
    listing: pathlib.Path, folder: files.Folder, report: files.Report
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
            find = None if path_column else _Finder(folder, report)
            for row in rows:
                path = (row[path_column] or "").strip() if path_column else ""
                path = files.within(folder, path)
                name = (row.get("video_id") or pathlib.PurePosixPath(path).stem).strip()
                lacking = not name or (path_column and not path)
                if lacking or "/" in name or files.leads_out(name) or files.leads_out(path):
                    report["malformed_line"] += 1
                elif path := path or find(name):
                    yield name, path
                else:
                    report["missing_file"] += 1
    except (OSError, csv.Error) as error:
        raise ConfigError(f"listing={str(listing)!r} cannot be read ({error})") from error


class _Finder:
    """Paths of the video files below a folder, by their names without ending."""

    def __init__(self, folder: files.Folder, report: files.Report):
        self._paths = Texts()
        names = np.fromiter(self._walked(folder), np.uint64)
        self._order = np.argsort(names, kind="stable")
        self._names = names[self._order]
        repeated = np.count_nonzero(self._names[1:] == self._names[:-1])
        report["duplicate_id"] += int(repeated)

    def __call__(self, name: str) -> str:
        """The path of the first file of that name in the order of the folder, or an empty one."""
        found = narrations.find(self._names, name)
        return "" if found is None else self._paths[int(self._order[found])]

    def _walked(self, folder: files.Folder) -> Iterator[int]:
        for path in folder.names():
            stem, ending = os.path.splitext(os.path.basename(path))
            if ending.lower() in files.VIDEO_ENDINGS:
                self._paths.append(path)
                yield narrations.digest(stem)
