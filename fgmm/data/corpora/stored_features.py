"""Features of clips on disk, as ``fgmm.data.features`` writes and the source ``features`` reads.

::

    features.json                        a Listing
    features-00000-of-00024.array_record clips in the order of their corpus
    ...

A record is a line of JSON, which is the clip without its media, and after it the feature map of the
clip: float16 numbers [T,H,W,E], little-endian. For a clip whose pictures could not be read there
are no numbers, and the JSON says why.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import Float16

from fgmm.config import ConfigError
from fgmm.data.preparation.disk import OutputFailed, cause, to_disk, write_json
from fgmm.data.schema import CROPPED, REASONS, BadInput, Caption, Clip, Resizing, Unreadable

LISTING = "features.json"
# Features are stored uncompressed; each record can be read alone.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_DTYPE = np.dtype("<f2")


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """A stored feature map in the place of a clip's pictures; a ``FrameWriter``.

    Attributes:
      values: the feature map, [T,H,W,E].
    """

    values: Float16[np.ndarray, "T H W E"]

    def fill(self, out: Float16[np.ndarray, "T H W E"], resizing: Resizing = CROPPED) -> None:
        """Writes the feature map, which has one size."""
        del resizing
        out[...] = self.values

    def frames(self, count: int, size: int) -> np.ndarray:
        """Raises ``BadInput``: nobody can look at features."""
        del count, size
        raise BadInput("no_video", "features are stored, not pictures")


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder of features holds.

    Attributes:
      shape: (T, H, W, E) of every feature map.
      clips: the number of clips in all shards.
      shard_clips: the number of clips in every shard but the last.
      origin: of the features: the weights, the corpus and its options.
      classes: names of the classes, by kind of label.
      report: what the corpus left out when it was opened, by reason.
    """

    shape: tuple[int, int, int, int]
    clips: int
    shard_clips: int
    origin: Mapping[str, Any]
    classes: Mapping[str, tuple[str, ...]]
    report: Mapping[str, int]

    @property
    def shards(self) -> list[range]:
        """The clips of each shard."""
        starts = range(0, self.clips, self.shard_clips)
        return [range(start, min(start + self.shard_clips, self.clips)) for start in starts]

    def path(self, folder: pathlib.Path, shard: int) -> pathlib.Path:
        """The path of a shard."""
        return folder / f"features-{shard:05}-of-{len(self.shards):05}.array_record"

    def write(self, folder: pathlib.Path) -> None:
        """Writes it as ``features.json``.

        Raises:
          OutputFailed: it cannot be written.
        """
        write_json(folder / LISTING, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Listing":
        """Reads the listing of a folder.

        Raises:
          ConfigError: there is none, or it is damaged.
        """
        path = folder / LISTING
        try:
            found = json.loads(path.read_text())
            listing = cls(
                shape=tuple(map(int, found["shape"])),
                clips=int(found["clips"]),
                shard_clips=int(found["shard_clips"]),
                origin=dict(found["origin"]),
                classes={kind: tuple(names) for kind, names in found["classes"].items()},
                report={reason: int(count) for reason, count in found["report"].items()},
            )
            if len(listing.shape) != 4 or min(*listing.shape, listing.shard_clips) < 1:
                raise ValueError(f"shape {listing.shape}, {listing.shard_clips} clips a shard")
        except FileNotFoundError as error:
            raise ConfigError(
                f"{str(folder)!r} has no {LISTING}; write features with python -m "
                "fgmm.data.features"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path} cannot be read ({type(error).__name__}: {error}); write it again"
            ) from error
        return listing


def serialised(clip: Clip, values: Float16[np.ndarray, "T H W E"] | None, problem: str) -> bytes:
    """A record.

    Args:
      clip: of the corpus; its media are left out.
      values: its feature map; None where its pictures cannot be read.
      problem: why they cannot be read, one of ``schema.REASONS``; otherwise empty.
    """
    head = {
        "clip_id": clip.clip_id,
        "captions": [
            [caption.text, caption.start, None if math.isinf(caption.end) else caption.end]
            for caption in clip.captions
        ],
        "labels": dict(clip.labels),
        "group": clip.group,
        "problems": list(clip.problems),
        "unreadable": problem,
    }
    body = b"" if values is None else np.asarray(values, _DTYPE).tobytes()
    return json.dumps(head).encode() + b"\n" + body


def clip_of(record: bytes, shape: tuple[int, ...]) -> Clip:
    """The clip of a record whose feature map has this shape.

    Raises:
      ValueError, KeyError, TypeError: it is no such record.
    """
    line, _, body = record.partition(b"\n")
    head = json.loads(line)
    reason = head["unreadable"]
    if not {reason, *head["problems"]} <= {"", *REASONS}:
        raise ValueError(f"unknown reasons {reason!r}, {head['problems']}")
    if reason:
        video = Unreadable(reason, "when features were computed")
    else:
        video = FeatureMap(np.frombuffer(body, _DTYPE).reshape(shape))
    return Clip(
        clip_id=str(head["clip_id"]),
        video=video,
        captions=tuple(
            Caption(str(text), float(start), math.inf if end is None else float(end))
            for text, start, end in head["captions"]
        ),
        labels={
            str(kind): tuple(map(int, label)) if isinstance(label, list) else int(label)
            for kind, label in head["labels"].items()
        },
        group=str(head["group"]),
        problems=tuple(head["problems"]),
    )


def write_shard(path: pathlib.Path, records: Iterable[bytes]) -> None:
    """Writes a shard: in the folder ``unfinished`` until it is complete and on disk.

    Raises:
      OutputFailed: it cannot be written.
    """
    partial = path.parent / "unfinished" / f"{path.name}.{uuid.uuid4().hex}"
    try:
        partial.parent.mkdir(exist_ok=True)
        writer = ArrayRecordWriter(os.fspath(partial), _WRITER_OPTIONS)
        for record in records:
            writer.write(record)
        writer.close()
        to_disk(partial)
        os.replace(partial, path)
        to_disk(path.parent)
    except (OSError, RuntimeError) as error:
        raise OutputFailed(f"{path.name} cannot be written: {cause(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def record_count(path: pathlib.Path) -> int:
    """The records of a shard; -1 where it is missing or damaged."""
    if not path.exists():
        return -1
    try:
        with contextlib.closing(ArrayRecordReader(os.fspath(path))) as reader:
            return reader.num_records()
    except Exception:  # ArrayRecord raises nearly anything for damaged files
        return -1
