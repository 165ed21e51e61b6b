"""Corpora of pairs: recordings or pictures with captions, read row by row."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files, patterns
from fgmm.data.corpora.arrow_batches import ArrowBatches
from fgmm.data.corpora.row_index import SplitRows, digest_of, report_of
from fgmm.data.corpora.source import SECONDS, FileSource, SplitByName, left_out
from fgmm.data.corpora.windows import NarrationWindows
from fgmm.data.fingerprint import Fingerprint, digest
from fgmm.data.media import av_files, joined
from fgmm.data.media.stretch import MediaFile, Recording, Stretch, share_start
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Caption, Clip, Unreadable

# How files of pictures and of sound begin.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b"\xff\xf9")
# WebP and WAV are both RIFF, and differ at byte 8.
_RIFF = {b"WEBP": "image", b"WAVE": "audio"}
# Bytes at the start that show any of these.
_HEAD = 16


class Pair(NamedTuple):
    """A recording or a picture of a corpus.

    Attributes:
      clip_id, labels, group: as in ``Clip``.
      kind: of ``media``, one of ``raw.KINDS``.
      media: a file, or the contents of one. Opening a file that cannot be read raises
        ``BadInput``.
      sound: a file of its own for the sound of a video; None where the video has it.
      captions: with times from the start of the recording; without an end they describe all of it.
      problems: what was left out of it, by reason.
    """

    clip_id: str
    kind: str
    media: MediaFile | bytes
    captions: tuple[Caption, ...] = ()
    sound: MediaFile | bytes | None = None
    labels: Mapping[str, int | tuple[int, ...]] = {}
    group: str = ""
    problems: Mapping[str, int] = {}


@dataclasses.dataclass(frozen=True)
class Lost:
    """Stands for a file that is known to be unreadable before it is opened."""

    reason: str
    detail: str

    def media(self, reason: str) -> av_files.Media:
        """Raises ``BadInput``."""
        del reason
        raise BadInput(self.reason, self.detail)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSource(FileSource):
    """A source of pairs, one clip each.

    If the captions of a recording have times, a clip is a stretch around one caption, with the
    captions nearest to it. Otherwise it is a stretch from anywhere in the recording, with all
    captions. ``source[i]`` takes caption and stretch in the middle; ``source.draw(i, rng)``, which
    training calls, draws both. A picture is a clip with all its captions.

    Files are opened when they are read; missing and broken ones are masked and counted then. Can be
    pickled, and read by many threads and processes.
    """

    seconds: float = option(3.2, above=0, help=SECONDS)
    candidates: int = option(
        4, low=1, help="K captions of a stretch at most, where they are timed."
    )
    minimum: float = option(
        4.0, low=0, help="Seconds to which a shorter caption is widened before a window is taken."
    )

    of_clips: ClassVar[tuple[str, ...]] = ("seconds", "candidates", "minimum")

    def pair(self, index: int) -> Pair:
        """The pair of a number. Raises OSError if its entry in the list cannot be read."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """The ``clip_id`` of a pair."""
        raise NotImplementedError

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The names of the classes, by kind of label; none where pairs have no labels."""
        return {}

    def raw(self) -> "RawPairs":
        """The files as they lie on disk, for ``fgmm.data.prepare``."""
        return RawPairs(self)

    def __getitem__(self, index: int) -> Clip:
        return self.draw(index, None)

    def draw(self, index: int, rng: np.random.Generator | None) -> Clip:
        """The clip of a pair with a window that ``rng`` draws; in the middle without it."""
        try:
            pair = self.pair(index)
        except OSError as error:  # what was listed when the corpus was opened has changed
            reason, name = "unreadable_record", f"{self.root}[{index}]"
            pair = Pair(name, "video", Lost(reason, str(error)), problems={reason: 1})
        described = {
            "clip_id": pair.clip_id,
            "labels": pair.labels,
            "group": pair.group,
            "problems": tuple(sorted(pair.problems)),
        }
        if pair.kind == "image":
            return Clip(video=_picture(pair), captions=pair.captions, **described)
        windows = NarrationWindows(self.seconds, self.minimum, self.candidates)
        # Short recordings may end before a window around a caption would.
        timed = all(math.isfinite(caption.end) for caption in pair.captions)
        duration = _duration(pair.media) if pair.captions and timed else math.inf
        stretch, near = windows(pair.media, pair.captions, rng, duration)
        heard = stretch if pair.sound is None else _beside(stretch, pair.sound)
        video = None if pair.kind == "audio" else stretch
        return Clip(video=video, audio=heard.sound, captions=near, **described)


class RawPairs:
    """The files of pairs as they lie on disk, for ``fgmm.data.prepare``. If the sound of a video is
    in a file of its own, it is left out.

    Attributes:
      names: the ids of the pairs.
      report, classes: as of the source.
    """

    def __init__(self, source: PairSource):
        """Opens no media."""
        self._source, self.names = source, _Names(source)
        self.report, self.classes = source.report, source.classes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> RawRecord:
        try:
            pair = self._source.pair(index)
        except OSError as error:
            raise BadInput("unreadable_record", str(error)) from error
        what = "audio" if pair.kind == "audio" else "video"
        media = _opened(pair.media, f"unreadable_{what}")
        if not isinstance(media, bytes):
            media = _contents(media) if isinstance(media, joined.Part) else pathlib.Path(media)
        return RawRecord(
            *(pair.clip_id, media, pair.kind, pair.captions, pair.labels, pair.group, pair.problems)
        )


class _Names(Sequence):
    """The ids of pairs, read one by one."""

    def __init__(self, source: PairSource):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        return self._source.name(range(len(self))[index])


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexedPairs(SplitByName, PairSource):
    """Pairs of files that a pattern names. They are listed in an index, and splits are made by its
    column ``place``.

    Attributes:
      called: what a pair, and the files that list them, are called in errors.
    """

    called: ClassVar[tuple[str, str]]

    @classmethod
    def is_there(cls, root: str) -> bool:
        """Whether there is such a file or folder, or ``root`` is a pattern."""
        return patterns.is_pattern(root) or os.path.exists(root)

    def open(self) -> None:
        """Opens the index."""
        if not len(self):
            pair, listing = self.called
            reason = left_out(self.report) or f"its {listing} are empty"
            raise ConfigError(
                f"root={self.root!r} has no {pair} with media in split {self.split!r} with "
                f"validation={self.validation}; {reason}"
            )

    @functools.cached_property
    def _folder(self) -> str:
        """The folder that paths in the index are relative to."""
        return patterns.folder_of(self.root)

    def listed(self) -> ArrowBatches:
        """Opens the index."""
        raise NotImplementedError

    @property
    def report(self) -> files.Report:
        """What was left out when the index was made, of all splits, by reason."""
        return report_of(self._listed)

    @functools.cached_property
    def _border(self) -> float:
        places = (facts.get("places", ()) for facts in self._listed.facts)
        return self.border_of(place for found in places for place in found)

    @functools.cached_property
    def _rows(self) -> SplitRows:
        return SplitRows(self._listed, self._border, self.split == "validation")

    def __len__(self) -> int:
        return len(self._rows)

    def fingerprint(self) -> Fingerprint:
        """The number of clips, and digests of their ids, of their captions, and of the sizes and
        times of the files that the index was made of.
        """
        index = self._listed
        names = digest_of(index, "ids")
        return {
            "clips": len(self),
            "ids": digest([names, self.split, repr(self._border)]),
            "texts": digest_of(index, "texts"),
            "sizes": digest_of(index, "size"),
            "times": digest_of(index, "modified"),
        }


def of_file(
    name: str,
    path: str | None,
    contents: bytes | None,
    folder: str,
    captions: tuple[Caption, ...],
    **described: Any,
) -> Pair:
    """A pair as a list or a table has it.

    Args:
      name: its ``clip_id``.
      path: of the file; unused if its contents are given.
      contents: of the file. Without path and contents, the file counts as missing.
      folder: that the path is relative to. A file outside counts as missing.
      captions, described: further fields of the ``Pair``.
    """
    if contents:
        return Pair(name, kind_of_contents(contents[:_HEAD]), contents, captions, **described)
    if not path:
        return Pair(name, "video", Lost("missing_file", name), captions, **described)
    corpus = _folder(folder)
    media = Recording(corpus, files.within(corpus, path))
    kind = kind_of(os.path.splitext(path)[1]) or _kind_of_file(media)
    return Pair(name, kind, media, captions, group=path, **described)


@functools.lru_cache(maxsize=256)
def _folder(path: str) -> files.Folder:
    return files.Folder(os.path.expanduser(path))


def kind_of(ending: str) -> str:
    """The kind of files with an ending such as ``.mp4``; empty if no media are known by it."""
    of_endings = {
        "video": files.VIDEO_ENDINGS,
        "audio": files.SOUND_ENDINGS,
        "image": files.IMAGE_ENDINGS,
    }
    return next((kind for kind, known in of_endings.items() if ending.lower() in known), "")


def kind_of_contents(data: bytes) -> str:
    """The kind of a file by its first bytes: pictures and sound are known by these, all else is
    taken for video.
    """
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12], "video")
    if data.startswith(_SOUNDS) or data[4:11] == b"ftypM4A":
        return "audio"
    return "image" if data.startswith(_PICTURES) else "video"


def _kind_of_file(media: Recording) -> str:
    """The kind of a file without a known ending."""
    try:
        with open(media.corpus.path / media.name, "rb") as file:
            return kind_of_contents(file.read(_HEAD))
    except (OSError, ValueError):
        return "video"  # it is missing, which is counted when it is read


def _picture(pair: Pair) -> bytes | Unreadable:
    """The contents of a picture for ``Clip.video``."""
    try:
        found = _opened(pair.media, "unreadable_video")
        return found if isinstance(found, bytes) else _contents(found)
    except BadInput as error:
        return Unreadable(error.reason, f"{pair.clip_id}: {error}")


def _opened(media: MediaFile | bytes, reason: str) -> av_files.Media:
    """As ``MediaFile.media``; contents as they are."""
    return media if isinstance(media, bytes) else media.media(reason)


def _contents(media: str | os.PathLike[str] | joined.Part) -> bytes:
    """The bytes of a file, or of a part of one.

    Raises:
      BadInput: ``missing_file`` or ``unreadable_record``.
    """
    try:
        if not isinstance(media, joined.Part):
            with open(media, "rb") as file:
                return file.read()
        with media.open() as file:
            data = file.read()
        if len(data) < media.past - media.first:
            raise BadInput("unreadable_record", f"{media.path} ends at {media.first + len(data)}")
        return data
    except FileNotFoundError as error:
        raise BadInput("missing_file", str(error)) from error
    except (OSError, ValueError) as error:  # the latter for names that no file can have
        raise BadInput("unreadable_record", str(error)) from error


def _duration(media: MediaFile | bytes) -> float:
    """The duration of a recording in seconds, by its header; infinite if that cannot be read."""
    try:
        return av_files.read_header(_opened(media, "unreadable_video")).duration
    except BadInput:  # which is counted when pictures and sound are read
        return math.inf


def _beside(stretch: Stretch, sound: MediaFile | bytes) -> Stretch:
    """The same stretch of the file that has the sound of a video."""
    start = stretch.start
    if start is None:  # found by the video, because the lengths of both may differ
        duration = _duration(stretch.recording)
        if math.isfinite(duration):
            start = share_start(duration, stretch.seconds, stretch.share)
    return dataclasses.replace(stretch, recording=sound, start=start)
