"""A folder of video files with captions beside them, cut into windows.

::

    cooking/first.mp4
    cooking/first.vtt          WebVTT, or SubRip with the ending .srt
    cooking/second.mkv
    cooking/second.jsonl       or JSON lines, {"text": ..., "start": ..., "end": ...} in seconds
    third.webm
    third.en.vtt               a language in the name, as downloaders write it
    third.de.vtt
    fourth.avi                 no captions: a clip without text
"""

import bisect
import collections
import dataclasses
import functools
import os
import re
from collections.abc import Iterator
from typing import ClassVar

from absl import logging

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora import files
from fgmm.data.corpora.labelled import readable
from fgmm.data.corpora.narrations import Narration
from fgmm.data.corpora.ranges import Ranges
from fgmm.data.corpora.source import SECONDS, SplitByName, left_out, place
from fgmm.data.corpora.windows import since
from fgmm.data.fingerprint import Members
from fgmm.data.media.av_files import Header
from fgmm.data.media.stretch import Recording, Stretch, even_start
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Caption, Clip
from fgmm.data.text import captions
from fgmm.data.text.texts import Texts

# The part between name and ending, such as en, pt-BR and zh-Hans-en.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")
# Share of a window by which a video may be too short for its windows, which then overlap.
_SHORT = 0.1


class VideoList:
    """The videos of a split as they lie on disk, each with the captions beside it.

    Attributes:
      names: of the files, relative to the folder, in the order of ``Folder.names``.
      folder: that the files are in.
      whole: the number of videos in all splits.
      languages: counts of caption files by the language in their names, empty without one.
      report: empty at first; faults of a video are found when it is read.
    """

    def __init__(self, source: "Source"):
        """Reads the names of the files.

        Raises:
          ConfigError: there is no such folder, or no video in it.
        """
        root = source.root
        if not root or not os.path.isdir(root):
            found = "is no folder" if root and os.path.exists(root) else "does not exist"
            raise ConfigError(
                f"root={root!r} {found}; give a folder of video files, with captions as .vtt, .srt "
                "or .jsonl files of the same names beside them"
            )
        self.report = files.Report()
        self.folder = files.Folder(root)
        videos, spoken = Texts(), []
        for name in self.folder.names():
            ending = os.path.splitext(name)[1].lower()
            if ending in files.VIDEO_ENDINGS:
                videos.append(name)
            elif ending[1:] in captions.FORMATS:
                spoken.append(name)
        self.whole, border = len(videos), source.border_of(map(place, videos))
        self.names = Texts(name for name in videos if source.has(name, border))
        self._stems = Texts(sorted(os.path.splitext(name)[0] for name in videos))
        self._spoken = Texts(sorted(spoken))
        self.languages, self._wanted = self._counted(), source.language
        self._choose_language(root)
        if not self.whole:
            known = " ".join(files.VIDEO_ENDINGS)
            raise ConfigError(f"root={root!r} holds no video; known endings: {known}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> RawRecord:
        name = self.names[index]
        spoken, problems = self.narration(name)
        path = self.folder.path / name
        return RawRecord(name, path, "video", spoken, group=name, problems=problems)

    def narration(self, name: str) -> Narration:
        """The captions of a video from the first file beside it that can be read, in the language
        asked for; and what was left out. If no language is asked for, a file without a language in
        its name comes first, then the language that most files of the folder have.
        """
        beside = list(self._beside(os.path.splitext(name)[0]))
        beside = [found for found in beside if _is_of(found[1], self._wanted)]
        problems = files.Report()
        for path, _ in sorted(beside, key=self._rank):
            try:
                form = os.path.splitext(path)[1].lower()[1:]
                read, cues = captions.read_captions(self.folder.read(path), form)
            except (BadInput, OSError):
                problems["unreadable_captions"] += 1
            else:
                return read, problems + cues
        return (), problems or files.Report({"missing_captions": 1})

    def _choose_language(self, root: str) -> None:
        """Logs how many caption files there are in each language, and which language is taken.

        Raises:
          ConfigError: there are none in the language asked for.
        """
        there = ", ".join(f"{name or 'none'} {n}" for name, n in sorted(self.languages.items()))
        taken = [name for name in self.languages if _is_of(name, self._wanted)]
        if self._wanted and not taken:
            raise ConfigError(
                f"language={self._wanted!r} is in the name of no caption file in root={root!r}; "
                f"files by language: {there or 'there are none'}"
            )
        if len(self.languages) > 1:
            order = sorted(taken, key=lambda name: self._rank(("", name)))
            first = ", then ".join(name or "one without" for name in order)
            # An error, because programs show only errors of their log.
            logging.error(
                "captions of %s by language: %s; of a video, %s is taken", root, there, first
            )

    def _rank(self, found: tuple[str, str]) -> tuple:
        path, language = found
        form = os.path.splitext(path)[1].lower()[1:]
        of_form = captions.FORMATS.index(form) if form else 0
        exact = language.lower() == self._wanted.lower()
        return not exact, -self.languages[language.lower()], language, of_form, path

    def _beside(self, stem: str) -> Iterator[tuple[str, str]]:
        """The caption files of a video, each with its language."""
        for number in range(bisect.bisect_left(self._spoken, f"{stem}."), len(self._spoken)):
            path = self._spoken[number]
            if not path.startswith(f"{stem}."):
                return
            owner, language = self._owner(path)
            if owner == stem:
                yield path, language

    def _owner(self, path: str) -> tuple[str, str]:
        """The name of the video that captions belong to, without ending, and their language."""
        stem = os.path.splitext(path)[0]
        shorter, _, language = stem.rpartition(".")
        if self._has(stem) or not _LANGUAGE.fullmatch(language) or not self._has(shorter):
            return stem, ""
        return shorter, language

    def _has(self, stem: str) -> bool:
        place = bisect.bisect_left(self._stems, stem)
        return place < len(self._stems) and self._stems[place] == stem

    def _counted(self) -> files.Report:
        found = map(self._owner, self._spoken)
        of_videos = (language for owner, language in found if self._has(owner))
        return collections.Counter(map(str.lower, of_videos))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(SplitByName):
    """Windows of equal length out of every video, from its start to its end, side by side.

    A video shorter than a window is one clip. Of a video shorter than about two windows, the window
    in the middle is the only clip. Clips of a file without a stream of sound have no audio, and
    those without captions no text. Opening reads the headers of the videos and the captions, and
    decodes nothing. Can be pickled, and read by many threads.

    Attributes:
      names: of the video files of this split, relative to the folder, in order.
      report: what was left out. Videos: ``unreadable_video``, ``too_slow``, and ``no_video`` for
        sound alone. Caption files: ``unreadable_captions``; ``missing_captions`` counts videos
        without one. Cues of caption files: ``malformed_line`` and ``empty_caption``.
    """

    seconds: float = option(2.0, above=0, help=SECONDS)
    candidates: int = option(
        0,
        low=0,
        help="Captions that a window should have. All that overlap it are its own; where these are"
        " fewer, the nearest in time are added.",
    )
    language: str = option(
        "",
        help="Of captions with a language in their names, NAME.LANG.vtt: en takes en-US as well."
        " Empty: captions without one come first, then the language that most files have.",
    )
    reach: float = option(10.0, low=0, help="Seconds to the farthest of the added ones.")

    of_clips: ClassVar[tuple[str, ...]] = ("seconds", "candidates", "reach")

    def raw(self) -> VideoList:
        """The videos as they lie on disk, for ``fgmm.data.prepare``."""
        # A listing of its own, as that of the clips has counted what cannot be read already.
        return self.listed()

    def listed(self) -> VideoList:
        """Reads the names of the files."""
        return VideoList(self)

    def open(self) -> None:
        """Reads the headers of the videos, and the captions."""
        if not self._videos:
            raise ConfigError(
                f"root={self.root!r} has no readable video in split {self.split!r}: "
                + left_out(self.report)
            )

    @functools.cached_property
    def _videos(self) -> list[tuple[Recording, Header, tuple[Caption, ...]]]:
        """The videos that can be read, with all their captions."""
        listed = self._listed
        if not len(listed):
            raise ConfigError(
                f"root={self.root!r}: none of its {listed.whole} videos is in split {self.split!r} "
                f"with validation={self.validation}; change that share or add videos"
            )
        recordings = [Recording(listed.folder, name) for name in sorted(listed.names)]
        headers = readable(recordings, "video", listed.report)
        found = []
        for recording, header in zip(recordings, headers, strict=True):
            if header:
                spoken, missing = listed.narration(recording.name)
                listed.report.update(missing)
                found.append((recording, header, spoken))
        return found

    @property
    def names(self) -> list[str]:
        return [recording.name for recording, _, _ in self._videos]

    def members(self) -> Members:
        """The videos that can be read."""
        names = ((name, name) for name in self.names)
        said = (caption.text for _, _, spoken in self._videos for caption in spoken)
        return Members(self._listed.folder, names, said)

    @functools.cached_property
    def _ranges(self) -> Ranges:
        """The windows of each video."""
        durations = [header.duration for _, header, _ in self._videos]
        return Ranges(max(1, int(d / self.seconds + _SHORT)) for d in durations)

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> Clip:
        number, window = self._ranges.find(index)
        recording, header, spoken = self._videos[number]
        windows = int(self._ranges.lengths[number])
        start = even_start(header.duration, self.seconds, window, windows)
        stretch = Stretch(recording, start, self.seconds)
        return Clip(
            clip_id=recording.name,
            video=stretch,
            audio=stretch.sound if header.audio else None,
            captions=since(start, self._near(spoken, start)),
            group=recording.name,
        )

    def _near(self, spoken: tuple[Caption, ...], start: float) -> tuple[Caption, ...]:
        """Captions of the window at ``start``, in order of time."""
        end = start + self.seconds

        def distance(caption: Caption) -> float:
            return max(caption.start - end, start - caption.end)

        within = [caption for caption in spoken if distance(caption) <= self.reach]
        nearest = sorted(within, key=distance)
        overlapping = sum(distance(caption) < 0 for caption in nearest)
        return tuple(
            sorted(
                nearest[: max(overlapping, self.candidates)],
                key=lambda caption: (caption.start, caption.end),
            )
        )


def _is_of(language: str, wanted: str) -> bool:
    """Whether captions are in the language ``wanted`` or a variant of it; true if that is empty."""
    spelled = language.lower().replace("_", "-")
    return not wanted or f"{spelled}-".startswith(f"{wanted.lower().replace('_', '-')}-")
