"""A long recording as several records, so that a clip is read from a piece and not from all of it.

The recording was encoded again just before, with a key frame where each piece begins. The packets
of pictures and sound are copied, with times from the start of the piece.
"""

import bisect
import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
import numpy as np

from fgmm.data.media import av_files, deadline
from fgmm.data.preparation.encode import REPRODUCIBLE, with_decoding_times
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.schema import Caption, Waveform

# Seconds of sound before a piece, which players of MP4 decode but do not play, because the first
# packets are decoded wrongly.
_WARM_UP = 0.3


class Piece(NamedTuple):
    """A stretch of a recording.

    Attributes:
      start, end: in seconds from the recording's start; the end of the last piece is infinite.
      data: contents of a file with this stretch alone.
    """

    start: float
    end: float
    data: bytes


def cut(data: bytes, kind: str, seconds: float) -> Iterator[Piece]:
    """Cuts a recording into pieces of about ``seconds``; the last has 0.5 to 1.5 times as much.

    There are no pieces of a recording that is shorter than 1.5 times ``seconds``, or of a video
    without a key frame where a second piece would begin: it stays whole. A piece of a video begins
    at the first key frame from a multiple of ``seconds`` on, and ends where the next one begins;
    sound after the last picture is in the last piece.

    Args:
      data: what ``encode.encoded`` returned.
      kind: ``video`` or ``audio``.
      seconds: the length of a piece.

    Raises:
      BadInput: ``unreadable_video``, ``unreadable_audio`` or ``too_slow``.
    """
    reason = f"unreadable_{kind}"
    duration = av_files.read_header(data, reason).duration
    count = math.floor(duration / seconds + 0.5)
    if count < 2:
        return
    if kind == "audio":
        yield from _of_sound(data, seconds, count, duration)
        return
    with av_files.opened(data, reason) as source:
        yield from _of_video(source, seconds, count)


def described(raw: RawRecord, piece: Piece, number: int) -> RawRecord:
    """The description of a piece: its own captions, and all else as of the recording.

    Its ``clip_id`` is that of the recording, a slash and the piece's number. No file has such a
    name, because the recording is no folder. Captions are those that are said in the piece, if only
    in part. Captions without an end describe the whole recording and stay as they are.
    """

    def shifted(caption: Caption) -> Caption:
        if math.isinf(caption.end):
            return caption
        return Caption(caption.text, caption.start - piece.start, caption.end - piece.start)

    return raw._replace(
        clip_id=f"{raw.clip_id}/{number}",
        captions=tuple(
            shifted(caption)
            for caption in raw.captions
            if piece.start <= caption.start < piece.end or caption.start < piece.start < caption.end
        ),
        group=raw.group or raw.clip_id,
    )


def _of_video(source, seconds: float, count: int) -> Iterator[Piece]:
    origin = av_files.origin_of(source)

    def time(packet) -> float:
        return float(packet.pts * packet.time_base) - origin

    streams = [s for s in (av_files.first_video(source), av_files.first_audio(source)) if s]
    packets = [*source.demux(*streams)]
    pictures, sound = (
        with_decoding_times(packet for packet in packets if packet.stream.type == kind)
        for kind in ("video", "audio")
    )
    due, places, starts = 1, [0], [0.0]
    for place, packet in enumerate(pictures):
        number = time(packet) // seconds
        if place and packet.is_keyframe and due <= number < count:
            places.append(place)
            starts.append(time(packet))
            due = number + 1
    if len(places) < 2:
        return
    form = "mp4" if "mp4" in source.format.name else "matroska"
    warm_up, times = _WARM_UP if form == "mp4" else 0.0, [time(packet) for packet in sound]
    for place, past, start, end in zip(
        places, [*places[1:], None], starts, [*starts[1:], math.inf], strict=True
    ):
        deadline.check()
        first, begun, over = (bisect.bisect_left(times, t) for t in (start - warm_up, start, end))
        # If the sound ends before the piece, the warm-up alone would be a track without sound.
        heard = sound[first if place else 0 : over] if begun < over else []
        parts = [pictures[place:past], heard]
        yield Piece(start, end, _muxed(form, [part for part in parts if part], start + origin))


def _muxed(form: str, parts: Sequence[list[av.Packet]], start: float) -> bytes:
    """A file with the packets of each stream, whose times are counted from ``start``."""
    out = io.BytesIO()
    with av.open(out, "w", format=form, options=REPRODUCIBLE) as target:
        packets = []
        for part in parts:
            stream = target.add_stream_from_template(part[0].stream, opaque=True)
            packets += [_moved(packet, stream, start) for packet in part]
        target.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return out.getvalue()


def _moved(packet: av.Packet, stream: av.stream.Stream, start: float) -> av.Packet:
    """A copy, because sound around a cut is in two files and writing changes a packet."""
    moved, offset = av.Packet(bytes(packet)), round(start / packet.time_base)
    moved.time_base, moved.stream = packet.time_base, stream
    moved.pts, moved.dts = packet.pts - offset, packet.dts - offset
    moved.duration, moved.is_keyframe = packet.duration, packet.is_keyframe
    return moved


def _of_sound(data: bytes, seconds: float, count: int, duration: float) -> Iterator[Piece]:
    starts = [seconds * number for number in range(count)]
    for start, end in zip(starts, [*starts[1:], duration], strict=True):
        sound = av_files.read_sound(data, start=start, seconds=end - start)
        yield Piece(start, end if end < duration else math.inf, _flac(sound))


def _flac(sound: Waveform) -> bytes:
    """The sound as FLAC, without loss: the samples had 16 bits before they were decoded."""
    samples = np.clip(np.round(sound.samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    out = io.BytesIO()
    with av.open(out, "w", format="flac", options=REPRODUCIBLE) as target:
        stream = target.add_stream("flac", rate=sound.rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.rate, frame.pts = sound.rate, 0
        target.mux([*stream.encode(frame), *stream.encode(None)])
    return out.getvalue()
