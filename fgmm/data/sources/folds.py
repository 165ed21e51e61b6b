"""Some folds of another source with labels, for cross-validation.

In a config, to train on four of five folds when the first one is the test part::

    config.data.source = {"name": "folds", "folds": 5, "take": (2, 3, 4, 5), "label": "sound",
        "source": {"name": "esc50", "root": ...}}
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora.wrapped import WrappedSource
from fgmm.data.folds import LabelledRecords, drawn_folds, labelled_records
from fgmm.data.schema import Clip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(WrappedSource):
    """The clips of a source that are in the folds taken. Clips without the label are in no fold.

    Folds keep groups together; see ``fgmm.data.folds.drawn_folds``. They are the folds of
    ``fgmm.eval.linear_probe`` with the same number and seed.

    Attributes:
      classes: those of the other source.
      parts: those of the other source that have clips here, where it has some.
      report: what the other source left out, and ``no_label`` for its clips without the label.
    """

    _kept: ClassVar[tuple[str, ...]] = (*WrappedSource._kept, "classes")

    label: str = option(help="The kind of label by which folds are stratified.")
    take: tuple[int, ...] = option(low=1, help="Which folds, from 1.")
    folds: int = option(5, low=2, help="How many there are.")

    def __post_init__(self):
        """Opens the corpus and draws the folds.

        Raises:
          ConfigError: the corpus cannot be opened or has no such label; it has too few groups or
            clips for the folds; or ``take`` names no fold, or only folds without clips.
        """
        super().__post_init__()
        if max(self.take) > self.folds:
            raise ConfigError(f"take={self.take!r} names a fold above folds={self.folds}")
        if not len(self):
            raise ConfigError(f"take={self.take!r} of folds={self.folds} holds no clip")
        if parts := getattr(self._source, "parts", ()):
            object.__setattr__(self, "parts", self._within(parts))

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
    def report(self) -> collections.Counter[str]:
        unlabelled = int(np.sum(self._labelled.owner < 0))
        return super().report + collections.Counter({"no_label": unlabelled})

    def __len__(self) -> int:
        return len(self._records)

    def _draw(self, index: int, rng: np.random.Generator | None) -> Clip:
        return self._other(int(self._records[index]), rng)
