"""Stretches of recordings, from which clips are made; recordings are opened when they are read."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from fgmm.data.corpora import files
from fgmm.data.media import av_files
from fgmm.data.schema import CROPPED, Resizing, Waveform


@runtime_checkable
class MediaFile(Protocol):
    """A file, or a part of one, that is opened when it is read, such as a ``Recording``."""

    def media(self, reason: str) -> av_files.Media:
        """What can be opened. Raises ``BadInput``: ``missing_file``, or ``reason``."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """A video or sound file of a corpus. Can be pickled.

    Attributes:
      corpus: a folder or an archive.
      name: of the file in it.
    """

    corpus: files.Folder | files.Archive
    name: str

    def media(self, reason: str) -> av_files.Media:
        """As ``files.path_or_contents``."""
        return files.path_or_contents(self.corpus, self.name, reason)

    def header(self, reason: str = "unreadable_video") -> av_files.Header:
        """As ``av_files.read_header``."""
        return av_files.read_header(self.media(reason), reason)


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A stretch of a recording, for its pictures and its sound.

    Every reader opens the recording and may raise ``BadInput``. Can be pickled, and read by many
    threads.

    Attributes:
      recording: a file of a corpus, or the contents of one.
      start: in seconds. None for a start at ``share``, found when the recording is read; one
        shorter than the stretch is then read from its start.
      seconds: its length; 0, without a ``start``, for the whole recording.
      share: without a ``start``, its place from the earliest possible start, 0, to the latest, 1.
    """

    recording: MediaFile | bytes
    start: float | None
    seconds: float
    share: float = 0.5
    # The duration of the recording, once it is known: pictures and sound both need it.
    _durations: list[float] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def fill(self, out: UInt8[np.ndarray, "T H W 3"], resizing: Resizing = CROPPED) -> None:
        """Writes T pictures at equal distances, as ``av_files.fill_frames``."""
        media, window = self._opened("unreadable_video")
        av_files.fill_frames(media, out, **window, resizing=resizing)

    def frames(self, count: int, size: int) -> UInt8[np.ndarray, "t h w 3"]:
        """Pictures at equal distances with their own aspect, as ``av_files.read_frames``."""
        media, window = self._opened("unreadable_video")
        return av_files.read_frames(media, **window, count=count, size=size)

    def sound(self) -> Waveform:
        """As ``av_files.read_sound``."""
        media, window = self._opened("unreadable_audio")
        return av_files.read_sound(media, **window)

    def _opened(self, reason: str) -> tuple[av_files.Media, dict[str, float]]:
        """The file, and the window in it."""
        known = isinstance(self.recording, bytes)
        media = self.recording if known else self.recording.media(reason)
        if self.start is not None:
            return media, {"start": self.start, "seconds": self.seconds}
        if not self._durations:
            self._durations.append(av_files.read_header(media, reason).duration)
        duration = self._durations[0]
        seconds = self.seconds or duration
        return media, {"start": share_start(duration, seconds, self.share), "seconds": seconds}


def share_start(duration: float, seconds: float, share: float) -> float:
    """The start of a window, in seconds: ``share`` of the way from the earliest possible start in a
    recording to the latest. 0 in a recording shorter than the window.
    """
    return share * max(0.0, duration - seconds)


def even_start(duration: float, seconds: float, number: int, count: int) -> float:
    """The start, in seconds, of window ``number`` (from 0) of ``count``, spread evenly from a
    recording's start to its end.

    A single window is in the middle. In a recording shorter than a window, all begin at its start.
    """
    slack = max(0.0, duration - seconds)
    return slack / 2 if count == 1 else slack * number / (count - 1)
