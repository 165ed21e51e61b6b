"""What ``python -m fgmm.data.prepare`` wrote: sharded records with encoded media; docs/data.md."""

import collections
import functools
import math
import pathlib
from typing import Any, NoReturn

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from fgmm.config import ConfigError
from fgmm.data.corpora.windows import Narrated, Spread, Window
from fgmm.data.media import av_files
from fgmm.data.preparation import shards
from fgmm.data.preparation.raw import KINDS
from fgmm.data.preparation.records import features
from fgmm.data.schema import REASONS, BadInput, Caption, Clip, Waveform

# Letters of an error of TFDS or ArrayRecord, which go on about where it happened.
_LONGEST_ERROR = 200


class Source:
    """A clip is a recording, or a piece of one where it was cut: a stretch around one of its
    narrations, and the narrations nearest to it. A picture is one with all its captions.

    ``source[i]`` takes the narration in the middle and the window in the middle of its stretch;
    ``source.draw(i, rng)``, which training calls, draws both. A recording without narration gives
    windows from anywhere in it. Can be pickled, and read by many threads and processes.

    With ``windows`` every recording is so many clips instead, at fixed places, as labelled sources
    have them: nothing is drawn.

    A record that cannot be read is masked as ``unreadable_record``, one of a shard that has gone
    since it was opened as ``missing_file``; all other records stay in their places.

    Attributes:
      classes: names of the classes, by kind of label and label.
      report: empty; the folder's report.json says what was left out when it was prepared.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str = "train",
        seconds: float = 3.2,
        fps: float = 10.0,
        size: int = 224,
        candidates: int = 4,
        minimum: float = 4.0,
        windows: int = 0,
        verify: bool = False,
    ):
        """Opens the folder: reads the list of its shards, and whether they are there and as long as
        they were.

        Args:
          root: the folder.
          split: one of those prepared.
          seconds: of a window.
          fps: pictures a second.
          size: pictures are shrunk to this many pixels on the shorter side while decoding.
          candidates: K narrations of a clip at most, as ``narrations.nearest`` finds them.
          minimum: seconds to which the stretch of a shorter narration is widened, to both sides
            alike; a window is taken from within it.
          windows: clips of each recording, spread from its start to its end, with what is said in
            them; 0 for one around a narration.
          verify: compare the checksums of the split's shards, for which all of them are read; as
            ``python -m fgmm.data.prepare --verify`` does for all splits.

        Raises:
          ConfigError: the folder was not prepared, or not to the end, or a shard is missing, of
            another length or, with ``verify``, changed, or an unknown split, or an option that
            makes no sense.
        """
        numbers = {"seconds": seconds, "fps": fps, "size": size, "candidates": candidates}
        for key, value in numbers.items():
            if not value > 0:
                raise ConfigError(f"{key}={value!r} must be greater than 0")
        for key, value in {"minimum": minimum, "windows": windows}.items():
            if value < 0:
                raise ConfigError(f"{key}={value!r} must be at least 0")
        self.report: collections.Counter[str] = collections.Counter()
        self._root, self._split = pathlib.Path(root).absolute(), split
        self._window, self._spread = Narrated(seconds, minimum, candidates), None
        if windows:
            self._spread = Spread(seconds, windows)
        self._frames, self._size = max(1, round(seconds * fps)), size
        entries = shards.read_manifest(self._root)
        known = list(dict.fromkeys(entry["split"] for entry in entries))
        if split not in known:
            raise ConfigError(
                f"split={split!r} is unknown to {root!r}; allowed: {', '.join(known)}"
            )
        entries = [entry for entry in entries if entry["split"] == split]
        if found := list(shards.damaged(self._root, entries, checksums=verify)):
            more = f" (and {len(found) - 1} more shards)" if len(found) > 1 else ""
            raise ConfigError(f"root={root!r}: {found[0]}{more}; delete it and prepare again")
        self._shards = [entry["file"] for entry in entries]
        self._ends = np.cumsum([entry["records"] for entry in entries])
        self.classes = shards.read_classes(self._root)
        self._records = self._open()
        if len(self._records) != self._ends[-1]:
            raise ConfigError(
                f"root={root!r}: dataset_info.json has {len(self._records)} records in split "
                f"{split!r}, {shards.MANIFEST} {self._ends[-1]}; prepare it again"
            )
        if not len(self._records):
            raise ConfigError(f"root={root!r} has no record in split {split!r}")

    def _open(self) -> Any:
        """TFDS's random access to the records."""
        try:
            builder = tfds.builder_from_directory(self._root)
            known = set(builder.info.features)
            records = builder.as_data_source(self._split)
        except Exception as error:  # TFDS raises nearly anything for damaged files
            raise ConfigError(
                f"root={str(self._root)!r}: TFDS cannot open it ({_one_line(error)}); dataset_info"
                ".json or features.json is damaged, prepare it again"
            ) from error
        if known != set(features()):
            raise ConfigError(
                f"root={str(self._root)!r} was written by another version; prepare it again"
            )
        return records

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._records = self._open()

    def __len__(self) -> int:
        return len(self._records) * self._windows

    @property
    def _windows(self) -> int:
        """Clips of a record."""
        return self._spread.count if self._spread else 1

    def __getitem__(self, index: int) -> Clip:
        return self._clip(index, None)

    def draw(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip of a recording around a narration that ``rng`` draws."""
        return self._clip(index, rng)

    def _clip(self, index: int, rng: np.random.Generator | None) -> Clip:
        index, place = divmod(range(len(self))[index], self._windows)
        try:
            return self._described(self._records[index], place, rng)
        except Exception as error:  # ArrayRecord and TFDS raise nearly anything for damaged shards
            shard = int(np.searchsorted(self._ends, index, side="right"))
            there = (self._root / self._shards[shard]).exists()
            reason = "unreadable_record" if there else "missing_file"
            failed = _Unreadable(
                reason, f"record {index} in {self._shards[shard]}: {_one_line(error)}"
            )
            name = f"{self._split}[{index}]"
            return Clip(clip_id=name, video=failed, audio=failed, problems=(reason,))

    def _described(
        self, record: dict[str, Any], place: int, rng: np.random.Generator | None
    ) -> Clip:
        """The clip of a record as it was read."""
        names = {key: record[key].decode() for key in ("clip_id", "group", "kind")}
        captions = record["captions"]
        spoken = tuple(
            Caption(text.decode(), float(start), float(end))
            for text, start, end in zip(
                *(captions[key] for key in ("text", "start", "end")), strict=True
            )
        )
        labels = record["labels"]
        described = {
            "clip_id": names["clip_id"],
            "group": names["group"],
            "labels": {
                name.decode(): int(value)
                for name, value in zip(labels["name"], labels["value"], strict=True)
            },
            "problems": tuple(reason.decode() for reason in record["problems"]),
        }
        _demand_sound(names, float(record["duration"]), spoken, described["problems"])
        if names["kind"] == "image":
            return Clip(video=record["media"], captions=spoken, **described)
        duration = float(record["duration"])
        if self._spread:
            window, near = self._spread(spoken, duration, place)
        else:
            window, near = self._window(spoken, rng, duration)
        read = {"data": record["media"], "duration": duration, "window": window}
        frames = functools.partial(_frames, **read, count=self._frames, size=self._size)
        return Clip(
            video=av_files.Pictures(frames) if record["has_video"] else None,
            audio=functools.partial(_sound, **read) if record["has_audio"] else None,
            captions=near,
            **described,
        )


def _demand_sound(
    names: dict[str, str], duration: float, spoken: tuple[Caption, ...], problems: tuple[str, ...]
) -> None:
    """Raises ValueError for what the preparation never writes."""
    if names["kind"] not in KINDS or not set(problems) <= set(REASONS):
        raise ValueError(f"kind {names['kind']!r}, problems {problems}")
    begins = (duration, *(caption.start for caption in spoken))
    if not all(map(math.isfinite, begins)) or any(math.isnan(caption.end) for caption in spoken):
        raise ValueError("times that are no numbers")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_ERROR]


class _Unreadable:
    """Pictures or sound of a record that cannot be read."""

    def __init__(self, reason: str, detail: str):
        self._reason, self._detail = reason, detail

    def __call__(self) -> NoReturn:
        raise BadInput(self._reason, self._detail)


def _frames(
    data: bytes, duration: float, window: Window, **options: Any
) -> UInt8[np.ndarray, "t h w 3"]:
    start = window.begins(duration)
    return av_files.read_frames(data, start=start, seconds=window.seconds, **options)


def _sound(data: bytes, duration: float, window: Window) -> Waveform:
    return av_files.read_sound(data, start=window.begins(duration), seconds=window.seconds)
