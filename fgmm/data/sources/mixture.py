"""Several corpora as one, each with a weight: its share of the clips of a batch.

In a config::

    config.data.source = {"name": "mixture", "sources": {
        "howto": {"name": "howto100m", "root": ..., "weight": 3.0},
        "sounds": {"name": "esc50", "root": ..., "weight": 1.0},
    }}
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fgmm import components
from fgmm.config import Config, ConfigError
from fgmm.config.option import check_options, option
from fgmm.data.corpora.ranges import Ranges
from fgmm.data.corpora.source import SECONDS
from fgmm.data.fingerprint import Fingerprint, of_source
from fgmm.data.opening import open_source
from fgmm.data.schema import Clip


class Part(NamedTuple):
    """A corpus of a mixture.

    Attributes:
      clips: where its clips are among those of the mixture.
      weight: its share of a batch is this over the sum of all weights.
    """

    clips: range
    weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The clips of all parts, one part after the other in the order of their names.

    Evaluations see every clip once, whatever the weights. Training draws from the parts by their
    weights (``fgmm.data.stream``), so with equal weights a clip of a small part comes up more often
    than one of a large part. ``clip_id`` and ``group`` begin with the name of the part.
    ``source.draw(i, rng)`` exists if a part has it.

    Attributes:
      parts: by which training draws.
      classes: names of the classes, by label, for kinds of label that have the same names in every
        part that has them.
      feature_shape: of stored features, if the parts have these.
      least_frames: the fewest frames that have room for a clip of each part.
      report: sums of what the parts left out.
    """

    # By name, each as in ``config.data.source``, with a ``weight`` above 0, or 1.0.
    sources: Mapping = dataclasses.field(hash=False)
    seconds: float = option(2.0, low=0, help=f"{SECONDS} Of parts that say nothing else.")

    def __post_init__(self):
        """Opens the parts.

        Raises:
          ConfigError: there is no part; a part cannot be opened, has no clip or holds a mixture; a
            weight is not above 0; or the parts do not all have pictures, or all stored features of
            one shape.
        """
        check_options(self)
        if not self.sources:
            raise ConfigError("sources is empty; name at least one")
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if any(hasattr(source, "draw") for source in self._sources):
            object.__setattr__(self, "draw", self._clip)
        shapes = {getattr(source, "feature_shape", None) for source in self._sources}
        if len(shapes) > 1:
            raise ConfigError(
                "sources: the parts have stored features of different shapes, or pictures beside "
                f"them: {', '.join(sorted(map(str, shapes)))}"
            )
        if shape := shapes.pop():
            object.__setattr__(self, "feature_shape", shape)

    @functools.cached_property
    def _names(self) -> list[str]:
        # A config does not keep the order of its keys.
        return sorted(self.sources)

    @functools.cached_property
    def _sources(self) -> list[Any]:
        return [_open(self.sources[name], f"sources.{name}", self.seconds) for name in self._names]

    @property
    def least_frames(self) -> int:
        return max(getattr(source, "least_frames", 1) for source in self._sources)

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        weights = [float(self.sources[name].get("weight", 1.0)) for name in self._names]
        ends = itertools.pairwise([0, *self._ranges.ends.tolist()])
        return tuple(Part(range(*of_part), w) for of_part, w in zip(ends, weights, strict=True))

    @functools.cached_property
    def _ranges(self) -> Ranges:
        """The clips of each part."""
        return Ranges(map(len, self._sources))

    @property
    def report(self) -> collections.Counter[str]:
        return sum((source.report for source in self._sources), collections.Counter())

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return _agreed([getattr(source, "classes", {}) for source in self._sources])

    def fingerprint(self) -> Fingerprint:
        """The number of clips; and under ``parts`` the fingerprint of each part, by name."""
        parts = zip(self._names, self._sources, strict=True)
        return {
            "clips": len(self),
            "parts": {name: of_source(source) for name, source in parts},
        }

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> Clip:
        return self._clip(index, None)

    def _clip(self, index: int, rng: np.random.Generator | None) -> Clip:
        number, within = self._ranges.find(index)
        name, source = self._names[number], self._sources[number]
        drawn = rng is not None and hasattr(source, "draw")
        clip = source.draw(within, rng) if drawn else source[within]
        group = f"{name}/{clip.group}" if clip.group else ""
        return dataclasses.replace(clip, clip_id=f"{name}/{clip.clip_id}", group=group)


def _open(entry: Any, key: str, seconds: float) -> Any:
    if not isinstance(entry, Config):
        raise ConfigError(f"{key}={entry!r} must be a dict with the name of a source")
    _, options = components.placed("data.sources", {"weight": 1.0, **entry}, key=key)
    if entry.get("name") == "mixture":
        raise ConfigError(f"{key}.name='mixture' cannot be a part of another; name its own parts")
    source = open_source(options, key, seconds)
    if getattr(source, "parts", ()):
        raise ConfigError(f"{key} holds a mixture, whose weights would be lost; name its own parts")
    if not len(source):
        raise ConfigError(f"{key} has no clip; leave it out")
    return source


def _agreed(classes: list[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """The kinds of label that have the same names in every part that has them, with these names."""
    found: dict[str, set[tuple[str, ...]]] = collections.defaultdict(set)
    for own in classes:
        for kind, names in own.items():
            found[kind].add(tuple(names))
    return {kind: next(iter(names)) for kind, names in found.items() if len(names) == 1}
