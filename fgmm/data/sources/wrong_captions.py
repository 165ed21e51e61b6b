"""A corpus in which a share of the captions belongs to other clips: noise of a known amount.

In a config::

    config.data.source = {"name": "wrong_captions", "share": 0.5, "source": {
        "name": "flickr8k", "root": ..., "split": "train",
    }}
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.corpora.source import SECONDS
from fgmm.data.fingerprint import Fingerprint, of_source
from fgmm.data.opening import open_source
from fgmm.data.schema import Caption, Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The clips of another source. Every caption is replaced, with probability ``share``, by one of
    another clip; clip and caption are drawn uniformly.

    What is drawn depends only on the seed, the index of the clip and the place of the caption among
    the clip's captions. So every epoch has the same wrong captions, unless the other source draws
    the captions of a clip. If the other clip has no caption, the right one stays. The grounding of
    replaced captions is left out.

    ``source.draw(i, rng)`` exists if the other source has it.

    Attributes:
      classes, parts, feature_shape, least_frames: those of the other source, where it has them.
      report: what the other source left out.
    """

    source: Mapping = option(help="The corpus, as in config.data.source.")
    share: float = option(low=0, high=1, help="Of the captions, that are wrong.")
    seed: int = option(0, low=0, help="Of what is drawn.")
    seconds: float = option(2.0, low=0, help=f"{SECONDS} Of a source that says nothing else.")

    def __post_init__(self):
        """Opens the corpus.

        Raises:
          ConfigError: it has fewer than two clips, or cannot be opened.
        """
        check_options(self)
        if len(self) < 2:
            raise ConfigError(f"source has {len(self)} clips; two are needed")
        for name in ("parts", "feature_shape", "least_frames"):
            if hasattr(self._source, name):
                object.__setattr__(self, name, getattr(self._source, name))
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if hasattr(self._source, "draw"):
            object.__setattr__(self, "draw", self._draw)

    @functools.cached_property
    def _source(self) -> Any:
        return open_source(self.source, "source", self.seconds)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return getattr(self._source, "classes", {})

    @property
    def report(self) -> collections.Counter[str]:
        return self._source.report

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the other source."""
        return of_source(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Clip:
        index = range(len(self))[index]
        return self._mixed(index, self._source[index])

    def _draw(self, index: int, rng: np.random.Generator) -> Clip:
        return self._mixed(index, self._source.draw(index, rng))

    def _mixed(self, index: int, clip: Clip) -> Clip:
        """The clip with its wrong captions."""
        captions = tuple(
            self._other(index, place) or caption for place, caption in enumerate(clip.captions)
        )
        right = [new is old for new, old in zip(captions, clip.captions, strict=True)]
        grounding = tuple(found for found in clip.grounding if right[found.caption])
        return dataclasses.replace(clip, captions=captions, grounding=grounding)

    def _other(self, index: int, place: int) -> Caption | None:
        """The wrong caption for a place in a clip; None if the right one stays."""
        rng = np.random.default_rng((self.seed, index, place))
        if rng.random() >= self.share:
            return None
        # Any clip but this one.
        other = (index + rng.integers(1, len(self))) % len(self)
        captions = self._source[int(other)].captions
        return captions[rng.integers(len(captions))] if captions else None
