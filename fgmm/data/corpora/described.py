"""Corpora of described video: stretches of files, each with the sentences that describe it."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from fgmm.config import ConfigError
from fgmm.data.corpora import files, labelled
from fgmm.data.media import av_files
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Caption, Clip, Waveform


class Segment(NamedTuple):
    """A stretch of a file.

    Attributes:
      clip_id: of the clip that it becomes.
      name: of the file.
      captions: with times from the start of the stretch.
      group: as in ``Clip``.
      start, end: in seconds; an ``end`` of None is that of the file.
    """

    clip_id: str
    name: str
    captions: tuple[Caption, ...]
    group: str = ""
    start: float = 0.0
    end: float | None = None


# Where the files are, the segments in order, and what was left out, to be continued.
Listed = tuple[files.Folder | files.Archive, list[Segment], collections.Counter[str]]


class RawFiles:
    """The files of segments as they lie on disk, for ``fgmm.data.prepare``: each as a whole, with
    the sentences of all its segments at their times.

    Attributes:
      videos: names of the files.
      report: as it was given; files that are missing are found so when they are read.
    """

    def __init__(
        self,
        corpus: files.Folder | files.Archive,
        segments: Sequence[Segment],
        report: collections.Counter[str],
    ):
        """Opens nothing; the arguments are those of ``DescribedSegments``."""
        self.report, self._corpus = +report, corpus
        self._segments: dict[str, list[Segment]] = collections.defaultdict(list)
        for segment in segments:
            self._segments[segment.name].append(segment)
        self.videos = list(self._segments)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> RawRecord:
        name = self.videos[index]
        segments = self._segments[name]
        if files.leads_out(name):
            raise BadInput("missing_file", name)
        said = sorted(
            (
                Caption(text, segment.start + start, segment.start + end)
                for segment in segments
                for text, start, end in segment.captions
            ),
            key=lambda caption: caption.start,
        )
        media = files.path_or_contents(self._corpus, name, "unreadable_video")
        group = segments[0].group
        return RawRecord(group or name, media, "video", tuple(said), group=group)


class DescribedSegments:
    """A source of segments, one clip each.

    ``source[i]`` takes the window in the middle of a segment; ``source.draw(i, rng)``, which
    training calls, one from anywhere in it. Files are opened when they are read: those that are
    broken, or without sound, are masked then and counted. Can be pickled, and read by many threads.

    Attributes:
      report: segments left out: ``missing_file``.
    """

    def __init__(
        self,
        corpus: files.Folder | files.Archive,
        segments: Sequence[Segment],
        report: collections.Counter[str],
        *,
        seconds: float,
        frames: int,
        size: int,
    ):
        """Looks for the files.

        Args:
          corpus: where they are.
          segments: in order.
          report: to be continued.
          seconds: of a window; a segment that is no longer is one window, and with 0 all are.
          frames: pictures at equal distances in a window, however long it is.
          size: pictures are shrunk to this many pixels on the shorter side while decoding.

        Raises:
          ConfigError: no file is there, or an option makes no sense.
        """
        labelled.demand_positive(frames=frames, size=size)
        if not seconds >= 0:
            raise ConfigError(f"seconds={seconds!r} must be at least 0")
        self.report = report
        self._corpus, self._seconds, self._frames, self._size = corpus, seconds, frames, size
        names = {segment.name for segment in segments}
        present = {name for name in names if not files.leads_out(name) and name in corpus}
        self._segments = [segment for segment in segments if segment.name in present]
        report["missing_file"] += len(segments) - len(self._segments)
        self.report = +report
        if not self._segments:
            reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(self.report.items()))
            raise ConfigError(
                f"{str(corpus.path)!r} has no video of this split ({reasons or 'none listed'})"
            )

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> Clip:
        return self._clip(index, 0.5)

    def draw(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip of a segment with a window that ``rng`` draws."""
        return self._clip(index, float(rng.random()))

    def _clip(self, index: int, share: float) -> Clip:
        segment = self._segments[range(len(self))[index]]
        recording = av_files.Recording(self._corpus, segment.name)
        window = _Window(recording, segment.start, segment.end, self._seconds, share)
        return Clip(
            clip_id=segment.clip_id,
            video=av_files.Pictures(functools.partial(window.frames, self._frames, self._size)),
            audio=window.sound,
            captions=segment.captions,
            group=segment.group,
        )


@dataclasses.dataclass(frozen=True)
class _Window:
    """``seconds`` of a stretch of a recording, at ``share`` of what its length leaves."""

    recording: av_files.Recording
    start: float
    end: float | None
    seconds: float
    share: float

    def frames(
        self, count: int, size: int, out: UInt8[np.ndarray, "T H W 3"] | None = None
    ) -> UInt8[np.ndarray, "t h w 3"]:
        """As ``av_files.read_frames``."""
        start, seconds = self._place("unreadable_video")
        return self.recording.frames(start=start, seconds=seconds, count=count, size=size, out=out)

    def sound(self) -> Waveform:
        """As ``av_files.read_sound``."""
        start, seconds = self._place("unreadable_audio")
        return self.recording.sound(start=start, seconds=seconds)

    def _place(self, reason: str) -> tuple[float, float]:
        end = self.recording.header(reason).duration if self.end is None else self.end
        whole = max(0.0, end - self.start)
        seconds = min(self.seconds or whole, whole)
        return self.start + self.share * (whole - seconds), seconds
