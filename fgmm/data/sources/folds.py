"""Some folds of another source with labels, for cross-validation.

In a config, to train on four of five folds when the first one is the test part::

    config.data.source = {"name": "folds", "folds": 5, "take": (2, 3, 4, 5), "label": "sound",
        "source": {"name": "esc50", "root": ...}}
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from fgmm.config import ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.corpora.source import SECONDS
from fgmm.data.fingerprint import Fingerprint, of_source
from fgmm.data.folds import LabelledRecords, drawn_folds, labelled_records
from fgmm.data.opening import open_source
from fgmm.data.schema import Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The clips of a source that are in the folds taken. Clips without the label are in no fold.

    Folds keep groups together; see ``fgmm.data.folds.drawn_folds``. They are the folds of
    ``fgmm.eval.linear_probe`` with the same number and seed.

    ``source.draw(i, rng)`` exists if the other source has it.

    Attributes:
      classes, feature_shape: those of the other source, where it has them.
      parts: those of the other source that have clips here, where it has some.
      report: what the other source left out, and ``no_label`` for its clips without the label.
    """

    source: Mapping = option(help="The corpus, as in config.data.source.")
    label: str = option(help="The kind of label by which folds are stratified.")
    take: tuple[int, ...] = option(low=1, help="Which folds, from 1.")
    folds: int = option(5, low=2, help="How many there are.")
    seed: int = option(0, low=0, help="Of drawing them.")
    seconds: float = option(2.0, low=0, help=f"{SECONDS} Of a source that says nothing else.")

    def __post_init__(self):
        """Opens the corpus and draws the folds.

        Raises:
          ConfigError: the corpus cannot be opened or has no such label; it has too few groups or
            clips for the folds; or ``take`` names no fold, or only folds without clips.
        """
        check_options(self)
        if max(self.take) > self.folds:
            raise ConfigError(f"take={self.take!r} names a fold above folds={self.folds}")
        if not len(self):
            raise ConfigError(f"take={self.take!r} of folds={self.folds} holds no clip")
        if hasattr(self._source, "feature_shape"):
            object.__setattr__(self, "feature_shape", self._source.feature_shape)
        if parts := getattr(self._source, "parts", ()):
            object.__setattr__(self, "parts", self._within(parts))
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if hasattr(self._source, "draw"):
            object.__setattr__(self, "draw", self._draw)

    @functools.cached_property
    def _source(self) -> Any:
        return open_source(self.source, "source", self.seconds)

    @functools.cached_property
    def _labelled(self) -> LabelledRecords:
        return labelled_records(self._source, self.label, key="source")

    @functools.cached_property
    def _records(self) -> Int64[np.ndarray, "records"]:
        """The indices, in the other source, of the clips taken."""
        found = self._labelled
        fold = drawn_folds(found.strata, found.groups, self.folds, self.seed, name="folds")
        taken = np.isin(fold, [number - 1 for number in self.take])
        return np.flatnonzero((found.owner >= 0) & taken[found.owner])

    def _within(self, parts: Sequence[Any]) -> tuple[Any, ...]:
        """The parts of the other source, with the clips that are taken of each."""
        ends = [np.searchsorted(self._records, (p.clips.start, p.clips.stop)) for p in parts]
        taken = (
            part._replace(clips=range(*map(int, own)))
            for part, own in zip(parts, ends, strict=True)
        )
        return tuple(part for part in taken if part.clips)

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        return self._source.classes

    @property
    def report(self) -> collections.Counter[str]:
        unlabelled = int(np.sum(self._labelled.owner < 0))
        return self._source.report + collections.Counter({"no_label": unlabelled})

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the other source."""
        return of_source(self._source)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Clip:
        return self._source[int(self._records[index])]

    def _draw(self, index: int, rng: np.random.Generator) -> Clip:
        return self._source.draw(int(self._records[index]), rng)
