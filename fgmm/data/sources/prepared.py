"""What ``python -m fgmm.data.prepare`` wrote: sharded records with encoded media; docs/data.md."""

import collections
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterable
from typing import Any, SupportsInt

import numpy as np
import tensorflow_datasets as tfds

from fgmm.config import ConfigError
from fgmm.config.option import option
from fgmm.data.corpora.ranges import Ranges
from fgmm.data.corpora.source import SECONDS, FileSource
from fgmm.data.corpora.windows import EvenWindows, NarrationWindows
from fgmm.data.fingerprint import Fingerprint, digest
from fgmm.data.preparation import shards
from fgmm.data.preparation.raw import KINDS
from fgmm.data.preparation.records import SEVERAL, features
from fgmm.data.schema import REASONS, Caption, Clip, Unreadable

# Characters kept of an error of TFDS or ArrayRecord, which may be long.
_LONGEST_ERROR = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(FileSource):
    """A clip is a stretch of a recording, or of a piece where recordings were cut: a stretch around
    one narration, with the narrations nearest to it. A picture is a clip with all its captions.

    ``source[i]`` takes the narration in the middle and the window in the middle of its stretch;
    ``source.draw(i, rng)``, which training calls, draws both. Without narration, the window is
    anywhere in the recording. Can be pickled, and read by many threads and processes.

    With ``windows`` every recording is that many clips, at fixed places, as in labelled sources.
    Nothing is drawn.

    A record that cannot be read is masked as ``unreadable_record``. If its shard has disappeared
    since the corpus was opened, it is masked as ``missing_file``. The indices of all other records
    stay the same.

    Attributes:
      classes: names of the classes of each kind of label, by label.
      report: empty; the folder's report.json says what was left out when it was prepared.
    """

    split: str = option("train", help="One of those prepared.")
    seconds: float = option(3.2, above=0, help=SECONDS)
    candidates: int = option(4, low=1, help="K narrations of a clip at most.")
    minimum: float = option(
        4.0, low=0, help="Seconds to which a shorter narration is widened before a window is taken."
    )
    windows: int = option(
        0, low=0, help="Clips of each recording, from its start to its end; 0: one, at a narration."
    )
    verify: bool = option(
        False, help="Compare the checksums of the split's shards, for which all of them are read."
    )

    def open(self) -> None:
        """Reads the list of the shards, and checks that they exist and have their sizes."""
        # A source has the method ``draw`` only if it draws: callers look whether it is there.
        if not self.windows:
            object.__setattr__(self, "draw", self._clip)
        if found := list(shards.damaged(self._folder, self._shards, checksums=self.verify)):
            more = f" (and {len(found) - 1} more shards)" if len(found) > 1 else ""
            raise ConfigError(f"root={self.root!r}: {found[0]}{more}; delete it and prepare again")
        if len(self._records) != len(self._ranges):
            raise ConfigError(
                f"root={self.root!r}: dataset_info.json has {len(self._records)} records in split "
                f"{self.split!r}, {shards.MANIFEST} {len(self._ranges)}; prepare it again"
            )
        if not len(self._records):
            raise ConfigError(f"root={self.root!r} has no record in split {self.split!r}")
        _ = self.classes

    @functools.cached_property
    def _folder(self) -> pathlib.Path:
        return pathlib.Path(self.root).absolute()

    @functools.cached_property
    def _shards(self) -> list[dict[str, Any]]:
        """The entries of the split's shards in the manifest."""
        entries = shards.read_manifest(self._folder)
        known = list(dict.fromkeys(entry["split"] for entry in entries))
        if self.split not in known:
            raise ConfigError(
                f"split={self.split!r} is unknown to {self.root!r}; allowed: {', '.join(known)}"
            )
        return [entry for entry in entries if entry["split"] == self.split]

    @functools.cached_property
    def _ranges(self) -> Ranges:
        """The records of each shard."""
        return Ranges(entry["records"] for entry in self._shards)

    @functools.cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return shards.read_classes(self._folder)

    @property
    def report(self) -> collections.Counter[str]:
        """Empty."""
        return collections.Counter()

    @functools.cached_property
    def _records(self) -> Any:
        """TFDS's random access to the records."""
        try:
            builder = tfds.builder_from_directory(self._folder)
            known = set(builder.info.features)
            records = builder.as_data_source(self.split)
        except Exception as error:  # TFDS raises nearly anything for damaged files
            raise ConfigError(
                f"root={str(self._folder)!r}: TFDS cannot open it ({_one_line(error)}); "
                "dataset_info.json or features.json is damaged, prepare it again"
            ) from error
        if known != set(features()):
            raise ConfigError(
                f"root={str(self._folder)!r} was written by another version; prepare it again"
            )
        return records

    def fingerprint(self) -> Fingerprint:
        """The number of clips, and a digest of the checksums of the shards."""
        checksums = (f"{entry['file']} {entry['sha256']}" for entry in self._shards)
        return {"clips": len(self), "ids": digest(checksums)}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    def __len__(self) -> int:
        return len(self._records) * (self.windows or 1)

    def __getitem__(self, index: int) -> Clip:
        return self._clip(index, None)

    def _clip(self, index: int, rng: np.random.Generator | None) -> Clip:
        """The clip of a recording around a narration that ``rng`` draws, or the middle one."""
        index, place = divmod(range(len(self))[index], self.windows or 1)
        try:
            return self._described(self._records[index], place, rng)
        except Exception as error:  # ArrayRecord and TFDS raise nearly anything for damaged shards
            shard, _ = self._ranges.find(index)
            file = self._shards[shard]["file"]
            there = (self._folder / file).exists()
            reason = "unreadable_record" if there else "missing_file"
            failed = Unreadable(reason, f"record {index} in {file}: {_one_line(error)}")
            name = f"{self.split}[{index}]"
            return Clip(clip_id=name, video=failed, audio=failed, problems=(reason,))

    def _described(
        self, record: dict[str, Any], place: int, rng: np.random.Generator | None
    ) -> Clip:
        """The clip of a record as it was read."""
        captions = record["captions"]
        spoken = tuple(
            Caption(text.decode(), float(start), float(end))
            for text, start, end in zip(
                *(captions[key] for key in ("text", "start", "end")), strict=True
            )
        )
        labels = record["labels"]
        described = {
            "clip_id": record["clip_id"].decode(),
            "group": record["group"].decode(),
            "labels": _labels(labels["name"], labels["value"]),
            "problems": tuple(reason.decode() for reason in record["problems"]),
        }
        kind, duration = record["kind"].decode(), float(record["duration"])
        _check_record(kind, duration, spoken, described["problems"])
        if kind == "image":
            return Clip(video=record["media"], captions=spoken, **described)
        if self.windows:
            even = EvenWindows(self.seconds, self.windows)
            stretch, near = even(record["media"], spoken, duration, place)
        else:
            around = NarrationWindows(self.seconds, self.minimum, self.candidates)
            stretch, near = around(record["media"], spoken, rng, duration)
        return Clip(
            video=stretch if record["has_video"] else None,
            audio=stretch.sound if record["has_audio"] else None,
            captions=near,
            **described,
        )


def _labels(
    names: Iterable[bytes], values: Iterable[SupportsInt]
) -> dict[str, int | tuple[int, ...]]:
    """Labels by kind, from the names of kinds and a class each; see ``records.SEVERAL``."""
    found: dict[str, int | tuple[int, ...]] = {}
    for name, value in zip(map(bytes.decode, names), map(int, values), strict=True):
        if value == SEVERAL:
            found[name] = ()
        elif isinstance(before := found.get(name), tuple):
            found[name] = (*before, value)
        else:
            found[name] = value
    return found


def _check_record(
    kind: str, duration: float, spoken: tuple[Caption, ...], problems: tuple[str, ...]
) -> None:
    """Raises ValueError for what the preparation never writes."""
    if kind not in KINDS or not set(problems) <= set(REASONS):
        raise ValueError(f"kind {kind!r}, problems {problems}")
    begins = (duration, *(caption.start for caption in spoken))
    if not all(map(math.isfinite, begins)) or any(math.isnan(caption.end) for caption in spoken):
        raise ValueError("times that are no numbers")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_ERROR]
