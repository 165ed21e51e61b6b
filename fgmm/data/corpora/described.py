"""Corpora of described video: stretches of files, each with the sentences that describe it."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files
from fgmm.data.corpora.source import SECONDS, FileSource, left_out
from fgmm.data.corpora.windows import since
from fgmm.data.fingerprint import Members
from fgmm.data.media.stretch import Recording, Stretch, share_start
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import Caption, Clip


class Segment(NamedTuple):
    """A stretch of a file.

    Attributes:
      clip_id: of the clip that it becomes.
      name: of the file.
      captions: with times from the start of the stretch.
      group: as in ``Clip``.
      start, end: in seconds. If ``end`` is None, the segment is the whole file.
    """

    clip_id: str
    name: str
    captions: tuple[Caption, ...]
    group: str = ""
    start: float = 0.0
    end: float | None = None


class Listing(NamedTuple):
    """What the lists of a corpus say.

    Attributes:
      corpus: where the files are.
      segments: of a split, in order.
      report: what was left out, by reason; readers of the corpus add to it.
    """

    corpus: files.Corpus
    segments: Sequence[Segment]
    report: files.Report


class RawFiles:
    """The files of segments as they lie on disk, for ``fgmm.data.prepare``. Each is a whole file
    with the sentences of all its segments, at their times.

    Attributes:
      names: of the files.
      report: as in the listing; a missing file is noticed when it is read.
    """

    def __init__(self, listing: Listing, kind: str = "video"):
        """Opens nothing.

        Args:
          listing: of the corpus.
          kind: of the files, as in ``RawRecord``.
        """
        self.report, self._corpus, self._kind = +listing.report, listing.corpus, kind
        self._segments: dict[str, list[Segment]] = collections.defaultdict(list)
        for segment in listing.segments:
            self._segments[segment.name].append(segment)
        self.names = list(self._segments)
        self._files = collections.Counter(own[0].group for own in self._segments.values())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> RawRecord:
        name = self.names[index]
        segments = self._segments[name]
        # Times of a segment count from its start, and those of the file from its own.
        said = [caption for own in segments for caption in since(-own.start, own.captions)]
        said.sort(key=lambda caption: caption.start)
        media = files.path_or_contents(self._corpus, name, f"unreadable_{self._kind}")
        group = segments[0].group
        # A group of several files cannot name them all.
        clip_id = group if group and self._files[group] == 1 else name
        return RawRecord(clip_id, media, self._kind, tuple(said), group=group)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DescribedSegments(FileSource):
    """A source of segments, one clip each.

    ``source[i]`` takes the window in the middle of a segment; ``source.draw(i, rng)``, which
    training calls, takes one from anywhere in it. If whole segments are taken, the pictures are
    spread over the segment, and its sound is cut to the length of a batch or padded with silence.
    Files are opened when they are read; broken ones, and those without sound, are masked and
    counted then. Can be pickled, and read by many threads.

    Attributes:
      kind: ``video`` or ``audio``: what the files are. Clips of sound files have no video.
      report: segments left out: ``missing_file``.
    """

    kind: ClassVar[str] = "video"

    seconds: float = option(
        2.0, low=0, help=f"{SECONDS} A shorter segment is one window; 0 takes every segment whole."
    )

    of_clips: ClassVar[tuple[str, ...]] = ("seconds",)

    def raw(self) -> RawFiles:
        """The files as they lie on disk, for ``fgmm.data.prepare``."""
        # A listing of its own, as that of the clips counts missing files already.
        return RawFiles(self.listed(), self.kind)

    def open(self) -> None:
        """Reads the lists, and looks for the files."""
        if not self._segments:
            raise ConfigError(
                f"{str(self._listed.corpus.path)!r} has no {self.kind} of this split "
                f"({left_out(self.report) or 'none listed'})"
            )

    @functools.cached_property
    def _segments(self) -> list[Segment]:
        """The segments whose files exist."""
        corpus, segments, report = self._listed
        names = {segment.name for segment in segments}
        present = {name for name in names if name in corpus}
        found = [segment for segment in segments if segment.name in present]
        if missing := len(segments) - len(found):
            report["missing_file"] += missing
        return found

    def members(self) -> Members:
        """The segments and their files."""
        names = ((segment.clip_id, segment.name) for segment in self._segments)
        said = (caption.text for segment in self._segments for caption in segment.captions)
        return Members(self._listed.corpus, names, said)

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> Clip:
        return self._clip(index, 0.5)

    def draw(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip of a segment with a window that ``rng`` draws."""
        return self._clip(index, float(rng.random()))

    def _clip(self, index: int, share: float) -> Clip:
        segment = self._segments[range(len(self))[index]]
        recording = Recording(self._listed.corpus, segment.name)
        if segment.end is None:
            stretch = Stretch(recording, None, self.seconds, share)
        else:
            whole = segment.end - segment.start
            seconds = min(self.seconds or whole, whole)
            start = segment.start + share_start(whole, seconds, share)
            stretch = Stretch(recording, start, seconds)
        return Clip(
            clip_id=segment.clip_id,
            video=stretch if self.kind == "video" else None,
            audio=stretch.sound,
            captions=segment.captions,
            group=segment.group,
        )
