"""Makes records, in TFDS's features, of recordings: one each, or one for each piece. Recordings are
examined, and encoded again if asked for.
"""

import dataclasses
import functools
import math
import os
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from fgmm.config import ConfigError
from fgmm.data.media import av_files, deadline, decode, joined
from fgmm.data.preparation import pieces
from fgmm.data.preparation.encode import Encoding, encoded
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import SILENCE, BadInput

# A record is one message of Protocol Buffers, which end at 2 GB.
LARGEST = 1_900_000_000
# A marker among the values of labels: the values of the same name after it, of which there may be
# any number, are all classes of the recording.
SEVERAL = -1
# Seconds of sound that are examined first, and at most in one step.
_FIRST_LOOK, _LONGEST_LOOK = 1.0, 60.0


class Findings(NamedTuple):
    """What a recording holds.

    Attributes:
      duration: in seconds; 0 for a picture.
      has_video, has_audio: what can be decoded.
      silent: whether there is sound that is never louder than ``SILENCE``.
      problems: reasons why parts of it cannot be used.
    """

    duration: float
    has_video: bool
    has_audio: bool
    silent: bool
    problems: tuple[str, ...] = ()


class Record(NamedTuple):
    """A record to be written: its bytes, and what the report counts of it."""

    serialized: bytes
    media_bytes: int
    raw: RawRecord
    examined: Findings


@dataclasses.dataclass(frozen=True)
class RecordMaker:
    """How recordings become records.

    Attributes:
      encoding: how they are encoded.
      time_limit: seconds for each recording; 0 for no limit.
    """

    encoding: Encoding
    time_limit: float

    def __call__(self, raw: RawRecord) -> list[Record]:
        """The record of a recording, or the records of all its pieces in order.

        If recordings were joined in one file, each becomes a piece with a file of its own. Joined
        recordings that cannot be used are left out.

        Raises:
          BadInput: the recording is left out: ``missing_file``; ``too_large`` for a record;
            ``too_slow``, not done in time; ``unreadable_video``, ``no_video``, ``unreadable_audio``
            or ``no_audio``, it does not hold what its kind should.
          ConfigError: a label is below 0.
        """
        with deadline.within(self.time_limit):
            parts = _parts(_contents(raw), raw.kind)
            found = [made for part in parts for made in self._of_recording(raw.kind, *part)]
            if len(found) == 1:
                made = [_made(raw, found[0][0].data, found[0][1])]
            else:
                made = [_of_piece(raw, number, *piece) for number, piece in enumerate(found)]
            # A reader may have caught ``too_slow`` and continued, so check again.
            deadline.check()
        return made

    def _of_recording(
        self, kind: str, piece: pieces.Piece, examined: Findings
    ) -> list[tuple[pieces.Piece, Findings]]:
        """The recording, encoded again and cut if asked for."""
        data = encoded(piece.data, kind, self.encoding, sound=examined.has_audio)
        cut: list[pieces.Piece] = []
        if self.encoding.piece_seconds and self.encoding.again(kind):
            cut = [
                pieces.Piece(piece.start + start, min(piece.start + end, piece.end), part)
                for start, end, part in pieces.cut(data, kind, self.encoding.piece_seconds)
            ]
        return [(part, examined) for part in cut or [piece._replace(data=data)]]


def _parts(data: bytes, kind: str) -> list[tuple[pieces.Piece, Findings]]:
    """The recordings in a file; one unless several were joined.

    Raises:
      BadInput: as ``examine``, for the last recording, if none can be used.
    """
    if kind == "image" or len(parts := joined.parts(data)) == 1:
        return [(pieces.Piece(0.0, math.inf, data), examine(data, kind))]
    found, end, failure = [], 0.0, None
    for part in parts:
        try:
            examined = examine(part, kind)
        except BadInput as error:
            failure = error
            continue
        begin, end = end, end + examined.duration
        found.append((pieces.Piece(begin, end, part), examined))
    if not found:
        raise failure
    last, examined = found[-1]
    problems = (failure.reason,) if failure else ()
    examined = examined._replace(problems=tuple(dict.fromkeys(examined.problems + problems)))
    return [*found[:-1], (last._replace(end=math.inf), examined)]


def _made(raw: RawRecord, data: bytes, examined: Findings) -> Record:
    _demand_small(len(data))
    return Record(_serialized(_example(raw, data, examined)), len(data), raw, examined)


def _of_piece(raw: RawRecord, number: int, piece: pieces.Piece, whole: Findings) -> Record:
    found = examine(piece.data, raw.kind)
    found = found._replace(problems=tuple(dict.fromkeys(whole.problems + found.problems)))
    return _made(pieces.described(raw, piece, number), piece.data, found)


@functools.cache
def features() -> tfds.features.FeaturesDict:
    """The features of a record; strings and bytes come back from TFDS as bytes."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            "clip_id": text(),
            "group": text(),
            "kind": text(),
            # The contents of a file that players can open.
            "media": np.bytes_,
            "duration": np.float32,
            "has_video": np.bool_,
            "has_audio": np.bool_,
            "silent": np.bool_,
            # Seconds from the start of the media, negative if a caption began before the piece.
            # The end is infinite where a caption describes a whole recording or picture.
            "captions": tfds.features.Sequence(
                {"text": text(), "start": np.float32, "end": np.float32}
            ),
            "labels": tfds.features.Sequence({"name": text(), "value": np.int64}),
            "problems": tfds.features.Sequence(text()),
        }
    )


@functools.cache
def _serializer() -> example_serializer.ExampleSerializer:
    return example_serializer.ExampleSerializer(features().get_serialized_info())


def _serialized(example: dict[str, Any]) -> bytes:
    """As TFDS does it, but with features in a fixed order, so the same bytes every time."""
    message = _serializer().get_tf_example(features().encode_example(example))
    return message.SerializeToString(deterministic=True)


def examine(data: bytes, kind: str) -> Findings:
    """Decodes the first picture, and sound until a part is not silent.

    Args:
      data: contents of a file.
      kind: one of ``raw.KINDS``.

    Raises:
      BadInput: the recording does not hold what its kind should.
    """
    if kind == "image":
        decode.read_image(data, 32, 32)
        return Findings(0.0, True, False, False)
    wanted = "video" if kind == "video" else "audio"
    header = av_files.read_header(data, f"unreadable_{wanted}")
    if not getattr(header, wanted):
        raise BadInput(f"no_{wanted}", "the file has no such stream")
    if kind == "video":
        av_files.read_frames(data, start=0.0, seconds=0.1, count=1, size=32)
    problems, silent = [], False
    has_audio = header.audio
    if has_audio:
        try:
            silent = not _audible(data, header.duration)
        except BadInput as error:
            if kind == "audio":
                raise
            problems, has_audio = [error.reason], False
    return Findings(header.duration, kind == "video", has_audio, silent, tuple(problems))


def _audible(data: bytes, duration: float) -> bool:
    """Whether there is a sound; raises ``BadInput`` if none can be decoded."""
    start, length, found, failure = 0.0, _FIRST_LOOK, False, None
    while start < duration:
        try:
            seconds = min(length, duration - start)
            heard = av_files.read_sound(data, start=start, seconds=seconds).samples
            found = True
            if len(heard) and float(np.abs(heard).max()) > SILENCE:
                return True
        except BadInput as error:
            failure = failure or error
        start, length = start + length, min(2 * length, _LONGEST_LOOK)
    if failure and not found:
        raise failure
    return False


def _contents(raw: RawRecord) -> bytes:
    if isinstance(raw.media, bytes):
        data = raw.media
    else:
        try:
            if not raw.media.is_file():
                raise BadInput("missing_file", os.fspath(raw.media))
            _demand_small(raw.media.stat().st_size)
            data = raw.media.read_bytes()
        except OSError as error:
            what = "audio" if raw.kind == "audio" else "video"
            raise BadInput(f"unreadable_{what}", str(error)) from error
    _demand_small(len(data))
    return data


def _demand_small(size: int) -> None:
    if size > LARGEST:
        raise BadInput("too_large", f"{size} bytes; a record has {LARGEST} at most")


def _example(raw: RawRecord, data: bytes, examined: Findings) -> dict[str, Any]:
    for name, label in raw.labels.items():
        if min(label if isinstance(label, tuple) else (label,), default=0) < 0:
            raise ConfigError(
                f"recording {raw.clip_id!r}: label {name}={label} must be at least 0; its source "
                "must leave out a label that is not there"
            )

    def text(words: str) -> str:
        return words.encode("utf-8", "replace").decode()

    return {
        **examined._asdict(),
        "clip_id": text(raw.clip_id),
        "group": text(raw.group),
        "kind": raw.kind,
        "media": data,
        "captions": [caption._asdict() | {"text": text(caption.text)} for caption in raw.captions],
        "labels": [
            {"name": name, "value": value}
            for name, label in raw.labels.items()
            for value in ((SEVERAL, *label) if isinstance(label, tuple) else (label,))
        ],
        "problems": sorted({*raw.problems, *examined.problems}),
    }
