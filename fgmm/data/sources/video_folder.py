"""A folder of video files with captions beside them, cut into windows.

::

    cooking/first.mp4
    cooking/first.vtt          WebVTT, or SubRip with the ending .srt
    cooking/second.mkv
    cooking/second.jsonl       or JSON lines, {"text": ..., "start": ..., "end": ...} in seconds
    third.webm                 no captions: a clip without text
"""

import collections
import functools
import hashlib
import os

import numpy as np

from fgmm.config import ConfigError
from fgmm.data.corpora import files, labelled
from fgmm.data.media import av_files
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import BadInput, Caption, Clip
from fgmm.data.text import captions
from fgmm.data.text.texts import Texts

ENDINGS = files.VIDEO_ENDINGS
SPLITS = ("train", "validation")
# Share of a window that a video may fall short of it and still count as one more.
_SHORT = 0.1


class Source:
    """Windows of equal length out of every video, from its start to its end, side by side.

    A video shorter than a window is one, and so is the middle of one shorter than two. What the
    files lack the clips lack: a video without a stream of sound gives clips without audio, one
    without captions clips without text. Can be pickled, and read by many threads.

    Attributes:
      videos: names of the video files of this split, relative to the folder, in order.
      report: what was left out. Videos: ``unreadable_video``, and ``no_video`` for sound alone.
        Caption files: ``unreadable_captions``; ``missing_captions`` counts videos without one. Of
        their cues: ``malformed_line`` and ``empty_caption``.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        validation: float = 0.1,
        seconds: float = 2.0,
        fps: float = 4.0,
        size: int = 112,
        candidates: int = 0,
        reach: float = 10.0,
    ):
        """Opens the corpus: reads the headers of the videos and the captions, decodes nothing.

        Args:
          root: the folder; videos may lie in folders below it.
          split: ``train`` or ``validation``.
          validation: share of the videos in that split. Which ones is decided by each video's name
            alone (its path below ``root`` without the ending), so it stays when others are added.
          seconds: of a window.
          fps: pictures a second.
          size: pictures are shrunk to this many pixels on the shorter side while decoding.
          candidates: captions that a window should have. All captions that overlap it are its own;
            where these are fewer, the nearest in time are added, as for a loss on a bag of captions
            of which some fit.
          reach: seconds to the farthest of the added ones.

        Raises:
          ConfigError: an unknown split, a missing folder, no video in it or in the split, none that
            can be read, or an option that makes no sense.
        """
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
        if not 0 <= validation < 1:
            raise ConfigError(f"validation={validation!r} must be a share from 0 to below 1")
        for key, value in {"seconds": seconds, "fps": fps, "size": size}.items():
            if not value > 0:
                raise ConfigError(f"{key}={value!r} must be greater than 0")
        for key, value in {"candidates": candidates, "reach": reach}.items():
            if value < 0:
                raise ConfigError(f"{key}={value!r} must be at least 0")
        self.report: collections.Counter[str] = collections.Counter()
        self._seconds, self._size = seconds, size
        self._frames = max(1, round(seconds * fps))
        self._candidates, self._reach = candidates, reach
        videos, caption_files = _listed(root)
        names = [name for name in videos if (place(name) < validation) == (split == "validation")]
        if not names:
            raise ConfigError(
                f"root={root!r}: none of its {len(videos)} videos is in split {split!r} with "
                f"validation={validation}; change that share or add videos"
            )
        folder = files.Folder(root)
        recordings = [av_files.Recording(folder, name) for name in names]
        headers = labelled.readable(recordings, "video", self.report)
        self._recordings = [
            (recording, header)
            for recording, header in zip(recordings, headers, strict=True)
            if header
        ]
        if not self.videos:
            reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(self.report.items()))
            raise ConfigError(f"root={root!r} has no readable video in split {split!r}: {reasons}")
        self._captions = [self._read_captions(folder, name, caption_files) for name in self.videos]
        counts = [max(1, int(header.duration / seconds + _SHORT)) for _, header in self._recordings]
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Clip:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        recording, header = self._recordings[number]
        first = int(self._ends[number - 1]) if number else 0
        windows = int(self._ends[number]) - first
        start = av_files.window_start(header.duration, self._seconds, index - first, windows)
        stretch = {"start": start, "seconds": self._seconds}
        return Clip(
            clip_id=recording.name,
            video=av_files.Pictures(
                functools.partial(recording.frames, **stretch, count=self._frames, size=self._size)
            ),
            audio=functools.partial(recording.sound, **stretch) if header.audio else None,
            captions=self._near(self._captions[number], start),
            group=recording.name,
        )

    @property
    def videos(self) -> list[str]:
        return [recording.name for recording, _ in self._recordings]

    def _read_captions(self, folder, name, caption_files) -> tuple[Caption, ...]:
        """Captions of a video: those of the first file beside it that can be read."""
        found = caption_files.get(os.path.splitext(name)[0], {})
        for form in captions.FORMATS:
            if form in found:
                try:
                    read, left_out = captions.read_captions(folder.read(found[form]), form)
                except (BadInput, OSError):
                    self.report["unreadable_captions"] += 1
                else:
                    self.report += left_out
                    return read
        if not found:
            self.report["missing_captions"] += 1
        return ()

    def _near(self, spoken: tuple[Caption, ...], start: float) -> tuple[Caption, ...]:
        """Captions of the window at ``start`` with times counted from there, in order of time."""
        end = start + self._seconds

        def distance(caption: Caption) -> float:
            return max(caption.start - end, start - caption.end)

        within = [caption for caption in spoken if distance(caption) <= self._reach]
        nearest = sorted(within, key=distance)
        overlapping = sum(distance(caption) < 0 for caption in nearest)
        chosen = sorted(
            nearest[: max(overlapping, self._candidates)],
            key=lambda caption: (caption.start, caption.end),
        )
        return tuple(Caption(text, a - start, b - start) for text, a, b in chosen)


def _listed(root: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Names of the videos below a folder, and of the caption files of each stem by format."""
    if not root or not os.path.isdir(root):
        found = "is no folder" if root and os.path.exists(root) else "does not exist"
        raise ConfigError(
            f"root={root!r} {found}; give a folder of video files, with captions as .vtt, .srt or "
            ".jsonl files of the same names beside them"
        )
    videos: list[str] = []
    caption_files: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for name in files.Folder(root).names():
        stem, ending = os.path.splitext(name)
        ending = ending.lower()
        if ending in ENDINGS:
            videos.append(name)
        elif ending[1:] in captions.FORMATS:
            caption_files[stem][ending[1:]] = name
    if not videos:
        raise ConfigError(f"root={root!r} holds no video; known endings: {' '.join(ENDINGS)}")
    return sorted(videos), caption_files


def place(name: str) -> float:
    """A number from 0 to 1 that depends on nothing but a file's name without its ending."""
    stem = os.path.splitext(name)[0]
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Raw:
    """The videos of a split as they lie on disk, each with the captions beside it.

    Attributes:
      videos: names of the files, relative to the folder, in the order in which it lists them.
      report: empty; what is wrong with a video is found when it is read.
    """

    splits = SPLITS

    def __init__(self, *, root: str, split: str = "train", validation: float = 0.1):
        """Reads the names of the files.

        Args:
          root, split, validation: as ``Source`` takes them.

        Raises:
          ConfigError: an unknown split, or no such folder.
        """
        labelled.demand_known(SPLITS, split=split)
        if not 0 <= validation < 1:
            raise ConfigError(f"validation={validation!r} must be a share from 0 to below 1")
        if not os.path.isdir(root):
            raise ConfigError(f"root={root!r} is no folder; give one of video files")
        self.report: collections.Counter[str] = collections.Counter()
        self.videos = Texts()
        self._folder = files.Folder(root)
        for name in self._folder.names():
            if os.path.splitext(name)[1].lower() in ENDINGS and (
                (place(name) < validation) == (split == "validation")
            ):
                self.videos.append(name)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> RawRecord:
        name = self.videos[index]
        spoken, left_out = self._narration(os.path.splitext(name)[0])
        path = self._folder.path / name
        return RawRecord(name, path, "video", spoken, group=name, problems=left_out)

    def _narration(self, stem: str) -> tuple[tuple[Caption, ...], collections.Counter[str]]:
        """Captions of a video: those of the first file beside it that can be read."""
        left_out: collections.Counter[str] = collections.Counter()
        for form in captions.FORMATS:
            for name in (f"{stem}.{form}", f"{stem}.{form.upper()}"):
                if name in self._folder:
                    try:
                        read, cues = captions.read_captions(self._folder.read(name), form)
                    except (BadInput, OSError):
                        left_out["unreadable_captions"] += 1
                    else:
                        return read, left_out + cues
        return (), left_out or collections.Counter({"missing_captions": 1})
