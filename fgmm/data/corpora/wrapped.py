"""What sources that change another source have in common."""

import collections
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fgmm.config.option import check_options, option
from fgmm.data.corpora.source import SECONDS
from fgmm.data.fingerprint import Fingerprint, of_source
from fgmm.data.opening import open_source
from fgmm.data.schema import Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrappedSource:
    """Another source, changed. A subclass adds its options, and says which clips it has.

    ``source.draw(i, rng)`` exists if the other source has it.

    Attributes:
      feature_shape, least_frames: those of the other source, where it has them.
      report: what the other source left out.
    """

    # Attributes that are those of the other source, where it has them.
    _kept: ClassVar[tuple[str, ...]] = ("feature_shape", "least_frames")

    source: Mapping = option(help="The corpus, as in config.data.source.")
    seed: int = option(0, low=0, high=2**32 - 1, help="Of what is drawn once.")
    seconds: float = option(2.0, low=0, help=f"{SECONDS} Of a source that says nothing else.")

    def __post_init__(self):
        """Opens the other source.

        Raises:
          ConfigError: an option makes no sense, or the other source cannot be opened.
        """
        check_options(self)
        for name in self._kept:
            if hasattr(self._source, name):
                object.__setattr__(self, name, getattr(self._source, name))
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if hasattr(self._source, "draw"):
            object.__setattr__(self, "draw", self._draw)

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Clip:
        return self._draw(index, None)

    def _draw(self, index: int, rng: np.random.Generator | None) -> Clip:
        """Clip ``index``, with the random choices of the other source if there is an ``rng``."""
        raise NotImplementedError

    def _other(self, index: int, rng: np.random.Generator | None) -> Clip:
        """A clip of the other source."""
        return self._source[index] if rng is None else self._source.draw(index, rng)

    @functools.cached_property
    def _source(self) -> Any:
        return open_source(self.source, "source", self.seconds)

    @property
    def report(self) -> collections.Counter[str]:
        return self._source.report

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the other source."""
        return of_source(self._source)
