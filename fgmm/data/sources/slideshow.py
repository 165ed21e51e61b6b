"""Several clips of a corpus as one: pictures one after another, and what is said of all of them.

Each text is about a part of the pictures, and nothing says which, as in long narrated video::

    config.data.source = {"name": "slideshow", "shown": 4, "source": {
        "name": "flickr8k", "root": ..., "split": "train",
    }}
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float16, Int, UInt8

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.corpora.source import SECONDS
from fgmm.data.fingerprint import Fingerprint, of_source
from fgmm.data.media import decode
from fgmm.data.opening import open_source
from fgmm.data.schema import CROPPED, Caption, Clip, FrameReader, FrameWriter, Resizing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Clips of another source in groups of ``shown``, drawn once by the seed. No clip is in two
    groups; those that are left over are in none.

    The frames of a batch, at least ``shown``, are divided among the clips of a group, in equal
    parts or nearly so. Captions follow each other in the order of the pictures, without times.
    There is no sound, no label and no grounding. If the pictures of one clip cannot be read, those
    of the group are masked.

    ``source.draw(i, rng)`` exists if the other source has it.

    Attributes:
      report: what the other source left out.
      feature_shape: of the other source, with ``shown`` times as many frames, where it has stored
        features.
      least_frames: ``shown``.
    """

    source: Mapping = option(help="The corpus, as in config.data.source.")
    shown: int = option(low=2, help="How many of its clips are one.")
    seed: int = option(0, low=0, help="Of the groups.")
    seconds: float = option(2.0, low=0, help=f"{SECONDS} Of a source that says nothing else.")

    def __post_init__(self):
        """Opens the corpus.

        Raises:
          ConfigError: it has fewer than ``shown`` clips, has parts with weights, or cannot be
            opened.
        """
        check_options(self)
        if hasattr(self._source, "parts"):
            raise ConfigError(
                f"source.name={self.source['name']!r} has parts with weights, which groups do not "
                "keep; make each part a slideshow"
            )
        if not len(self):
            raise ConfigError(
                f"shown={self.shown} clips are to be one, and source has {len(self._source)}; "
                "lower shown"
            )
        if shape := getattr(self._source, "feature_shape", None):
            object.__setattr__(self, "feature_shape", (self.shown * shape[0], *shape[1:]))
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if hasattr(self._source, "draw"):
            object.__setattr__(self, "draw", self._draw)

    @functools.cached_property
    def _source(self) -> Any:
        return open_source(self.source, "source", self.seconds)

    @functools.cached_property
    def _groups(self) -> Int[np.ndarray, "clips shown"]:
        """The indices of the clips of each group."""
        order = np.random.default_rng(self.seed).permutation(len(self._source))
        whole = len(order) // self.shown * self.shown
        return order[:whole].reshape(-1, self.shown)

    @property
    def least_frames(self) -> int:
        return self.shown

    @property
    def report(self) -> collections.Counter[str]:
        return self._source.report

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the other source."""
        return of_source(self._source)

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Clip:
        index = range(len(self))[index]
        return _together([self._source[int(i)] for i in self._groups[index]])

    def _draw(self, index: int, rng: np.random.Generator) -> Clip:
        return _together([self._source.draw(int(i), rng) for i in self._groups[index]])


def _together(clips: Sequence[Clip]) -> Clip:
    """Several clips as one."""
    captions = itertools.chain.from_iterable(clip.captions for clip in clips)
    return Clip(
        clip_id="+".join(clip.clip_id for clip in clips),
        video=_Shown(tuple((clip.clip_id, clip.video) for clip in clips)),
        captions=tuple(Caption(caption.text) for caption in captions),
        problems=tuple(dict.fromkeys(problem for clip in clips for problem in clip.problems)),
    )


@dataclasses.dataclass(frozen=True)
class _Shown:
    """The pictures of several clips, with the ids of these; a ``FrameWriter``."""

    videos: tuple[tuple[str, bytes | FrameWriter | FrameReader | None], ...]

    def fill(
        self,
        out: UInt8[np.ndarray, "T H W 3"] | Float16[np.ndarray, "T H W E"],
        resizing: Resizing = CROPPED,
    ) -> None:
        """Writes the pictures of each clip into its part of the frames, one or more."""
        parts = np.array_split(out, len(self.videos))
        for part, (name, video) in zip(parts, self.videos, strict=True):
            decode.fill_frames(part, video, resizing, name)

    def frames(self, count: int, size: int) -> UInt8[np.ndarray, "t h w 3"]:
        """A square picture of each clip, but at most ``count``."""
        return np.stack([self._square(*shown, size) for shown in self.videos[:count]])

    def _square(self, name: str, video: Any, size: int) -> UInt8[np.ndarray, "h w 3"]:
        if isinstance(video, FrameWriter):
            return decode.fit_frames(video.frames(1, size), 1, size, size)[0]
        out = np.empty((1, size, size, 3), np.uint8)
        decode.fill_frames(out, video, CROPPED, name)
        return out[0]
