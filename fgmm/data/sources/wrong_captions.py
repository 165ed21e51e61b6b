"""A corpus in which a share of the captions belongs to other clips: noise of a known amount.

In a config::

    config.data.source = {"name": "wrong_captions", "share": 0.5, "source": {
        "name": "flickr8k", "root": ..., "split": "train",
    }}
"""

import dataclasses
from typing import ClassVar

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora.wrapped import WrappedSource
from fgmm.data.schema import Caption, Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(WrappedSource):
    """The clips of another source. Every caption is replaced, with probability ``share``, by one of
    another clip; clip and caption are drawn uniformly.

    What is drawn depends only on the seed, the index of the clip and the place of the caption among
    the clip's captions. So every epoch has the same wrong captions, unless the other source draws
    the captions of a clip. If the other clip has no caption, the right one stays. The grounding of
    replaced captions is left out.

    Attributes:
      classes, parts: those of the other source, where it has them.
    """

    _kept: ClassVar[tuple[str, ...]] = (*WrappedSource._kept, "classes", "parts")

    share: float = option(low=0, high=1, help="Of the captions, that are wrong.")

    def __post_init__(self):
        """Opens the corpus.

        Raises:
          ConfigError: it has fewer than two clips, or cannot be opened.
        """
        super().__post_init__()
        if len(self) < 2:
            raise ConfigError(f"source has {len(self)} clips; two are needed")

    def __len__(self) -> int:
        return len(self._source)

    def _draw(self, index: int, rng: np.random.Generator | None) -> Clip:
        """The clip with its wrong captions."""
        index = range(len(self))[index]
        clip = self._other(index, rng)
        captions = tuple(
            self._wrong(index, place) or caption for place, caption in enumerate(clip.captions)
        )
        right = [new is old for new, old in zip(captions, clip.captions, strict=True)]
        grounding = tuple(found for found in clip.grounding if right[found.caption])
        return dataclasses.replace(clip, captions=captions, grounding=grounding)

    def _wrong(self, index: int, place: int) -> Caption | None:
        """The wrong caption for a place in a clip; None if the right one stays."""
        rng = np.random.default_rng((self.seed, index, place))
        if rng.random() >= self.share:
            return None
        # Any clip but this one.
        other = (index + rng.integers(1, len(self))) % len(self)
        captions = self._source[int(other)].captions
        return captions[rng.integers(len(captions))] if captions else None
