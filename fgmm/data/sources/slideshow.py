"""Several clips of a corpus as one: pictures one after another, and what is said of all of them.

Each text is about a part of the pictures, and nothing says which, as in long narrated video::

    config.data.source = {"name": "slideshow", "shown": 4, "source": {
        "name": "flickr8k", "root": ..., "split": "train",
    }}
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float16, Int, UInt8

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora.wrapped import WrappedSource
from fgmm.data.media import decode
from fgmm.data.schema import CROPPED, Caption, Clip, FrameReader, FrameWriter, Resizing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(WrappedSource):
    """Clips of another source in groups of ``shown``, drawn once by the seed. No clip is in two
    groups; those that are left over are in none.

    The frames of a batch, at least ``shown``, are divided among the clips of a group, in equal
    parts or nearly so. Captions follow each other in the order of the pictures, without times.
    There is no sound, no label and no grounding. If the pictures of one clip cannot be read, those
    of the group are masked.

    Attributes:
      feature_shape: of the other source, with ``shown`` times as many frames, where it has stored
        features.
      least_frames: ``shown`` times that of the other source.
    """

    shown: int = option(low=2, help="How many of its clips are one.")

    def __post_init__(self):
        """Opens the corpus.

        Raises:
          ConfigError: it has fewer than ``shown`` clips, has parts with weights, or cannot be
            opened.
        """
        super().__post_init__()
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
        least = self.shown * getattr(self._source, "least_frames", 1)
        object.__setattr__(self, "least_frames", least)

    @functools.cached_property
    def _groups(self) -> Int[np.ndarray, "clips shown"]:
        """The indices of the clips of each group."""
        order = np.random.default_rng(self.seed).permutation(len(self._source))
        whole = len(order) // self.shown * self.shown
        return order[:whole].reshape(-1, self.shown)

    def __len__(self) -> int:
        return len(self._groups)

    def _draw(self, index: int, rng: np.random.Generator | None) -> Clip:
        return _together([self._other(int(i), rng) for i in self._groups[index]])


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
