"""Windows of video and sound files: the pictures and the sound of a stretch of time.

Every call opens the file. The only state is the set of files that took too long to open, so any
number of threads may read. A file's format is found by its content, not by its name. Times are in
seconds from the start of the file, as players count them. If recordings were joined end to end in
one file (``joined``), each is read by itself, and its times continue those of the one before.
"""

import bisect
import contextlib
import functools
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import thread_time
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import Float32, UInt8

from fgmm.data.media import deadline, decode, joined
from fgmm.data.media.scaler import Scaler
from fgmm.data.media.skipping import skipping
from fgmm.data.schema import CROPPED, BadInput, Resizing, Waveform

# A path, the contents of a file, or a part of a file.
Media = joined.Media

# Formats that hold only video or sound: no lists of further files, which could lead anywhere, and
# no single pictures.
_FORMATS = "aac,aiff,asf,avi,flac,flv,matroska,mov,mp3,mpeg,mpegts,mxf,ogg,wav"
# Pictures of more pixels (8192 x 8192) are taken for damage.
_MAX_PIXELS = 1 << 26
# Seconds of processor time that opening a file may take.
_OPENING_LIMIT = 1.0
# A higher sample rate, in Hz, is taken for damage: no recorder makes it.
_HIGHEST_RATE = 768_000
# How many times lower the rate may become within a file; resampling damage could fill the memory.
_GREATEST_FALL = 100
# A file of fewer bytes a second is damaged; it would have nearly endless windows.
_LEAST_BYTES_A_SECOND = 25
# Seconds by which a seek is moved back, one after the other, while it ends after the moment.
_FURTHER_BACK = (0.0, 2.0, 16.0, math.inf)
# Seconds of sound decoded before a window, because the first packets are decoded wrongly.
_WARM_UP = 0.1
# Seconds by which times of sound may be rounded: containers count in milliseconds or worse.
_JITTER = 0.02
# Formats of broadcasts, whose clock may begin anywhere, also shortly before it wraps to 0.
_BROADCAST = ("mpeg", "mpegts")
# Seconds by which packets of a stream may come after later ones.
_OUT_OF_ORDER = 0.5
# Seconds by which a stream may end before the time that the header gives.
_EARLY_END = 0.5
# Hashes of the paths or contents of files that took this process longer than _OPENING_LIMIT.
_slow: set[int] = set()


class Header(NamedTuple):
    """What a file says it holds.

    Attributes:
      duration: in seconds, of the longest stream; of joined recordings, the sum.
      video, audio: whether there is a stream of moving pictures, and of sound.
    """

    duration: float
    video: bool
    audio: bool


def read_header(media: Media, reason: str = "unreadable_video") -> Header:
    """What a file says it holds, without decoding it.

    Raises:
      BadInput: ``missing_file``; ``too_slow``, as for ``opened``; ``reason``, the file is empty,
        damaged, or in no format of video or sound.
    """
    headers = [_header(recording, reason) for recording, _, _ in _recordings(media, reason)]
    durations, video, audio = zip(*headers, strict=True)
    return Header(sum(durations), any(video), any(audio))


def _header(media: Media, reason: str) -> Header:
    """As ``read_header``, of one recording."""
    return _of_part(media, reason) if isinstance(media, joined.Part) else _of_one(media, reason)


def _of_one(media: Media, reason: str) -> Header:
    with opened(media, reason) as container:
        video, audio = first_video(container), first_audio(container)
        longest = container.size / _LEAST_BYTES_A_SECOND
        duration = (container.duration or 0) / av.time_base
        if not 0 < duration <= longest:
            duration = _measured_duration(container)
        if duration > longest:
            raise BadInput(reason, f"{container.size} bytes cannot last {duration:.0f} s")
        return Header(duration, video is not None, audio is not None)


# Cached, because each window of a file needs the headers of all its parts.
_of_part = functools.lru_cache(maxsize=1 << 12)(_of_one)


def _recordings(media: Media, reason: str) -> list[tuple[Media, float, float]]:
    """The recordings in a file, each with the seconds at which it begins and ends. Joined
    recordings that cannot be read are skipped. A single recording is not opened; its end is
    infinite.

    Raises:
      BadInput: ``reason``; several recordings are joined, and none can be read.
    """
    parts: tuple[Media, ...] = (media,)
    if isinstance(media, bytes) or (not isinstance(media, joined.Part) and os.path.isfile(media)):
        with contextlib.suppress(OSError):
            parts = joined.parts(media)
    if len(parts) == 1:
        return [(media, 0.0, math.inf)]
    found, end = [], 0.0
    for part in parts:
        with contextlib.suppress(BadInput):
            begin, end = end, end + _header(part, reason).duration
            found.append((part, begin, end))
    deadline.check()
    if not found:
        raise BadInput(reason, f"none of {len(parts)} recordings in it can be read")
    return found


def read_frames(
    media: Media, *, start: float, seconds: float, count: int, size: int
) -> UInt8[np.ndarray, "t h w 3"]:
    """The pictures on display in a window, chosen by time, not by number.

    They are upright, have square pixels, and all have the size of the first. The first picture of a
    file is on display before its time too; each one stays until the next is due.

    Args:
      start, seconds: of the window.
      count: t. Pictures are taken in the middle of t equal stretches of the window.
      size: a larger picture is shrunk, its aspect kept, until the shorter of h and w is this many
        pixels. A smaller one stays as it is.

    Raises:
      BadInput: ``missing_file``; ``no_video``, there is no stream of moving pictures;
        ``unreadable_video``, no picture can be decoded, or the file is cut off before the window;
        ``too_slow``, as for ``opened``.
    """
    out = None
    scaler = functools.partial(Scaler, size=size)
    for first, past, picture in _shown(media, start, seconds, count, scaler):
        if out is None:
            out = np.empty((count, *picture.shape), np.uint8)
        if picture.shape != out.shape[1:]:  # of another recording
            picture = decode.fit_frames(picture[None], 1, *out.shape[1:3])[0]
        out[first:past] = picture
    return out


def fill_frames(
    media: Media,
    out: UInt8[np.ndarray, "T H W 3"],
    *,
    start: float,
    seconds: float,
    resizing: Resizing = CROPPED,
) -> None:
    """Writes the pictures on display in a window, as ``read_frames`` finds them for ``count=T``.

    Each is brought to H x W by ``resizing`` while it is decoded, and then copied once.

    Raises:
      BadInput: as ``read_frames``.
    """
    scaler = functools.partial(Scaler, target=out.shape[1:3], resizing=resizing)
    for first, past, picture in _shown(media, start, seconds, len(out), scaler):
        out[first:past] = picture


def _shown(
    media: Media, start: float, seconds: float, count: int, scaler_of: Callable[..., Scaler]
) -> Iterator[tuple[int, int, UInt8[np.ndarray, "h w 3"]]]:
    """Yields (first, past, picture): a picture on display at the moments ``first`` to ``past`` - 1.

    It lies in the memory of FFmpeg's scaler; copy it before the next one.
    """
    moments = [start + (i + 0.5) * seconds / count for i in range(count)]
    recordings, done = _recordings(media, "unreadable_video"), 0
    for recording, begin, end in recordings:
        due = count if end == recordings[-1][2] else bisect.bisect_left(moments, end)
        if done < due:
            own = [moment - begin for moment in moments[done:due]]
            with opened(recording, "unreadable_video") as container:
                stream = first_video(container)
                if stream is None:
                    raise BadInput("no_video", "the file has no moving pictures")
                scaler = scaler_of(stream)
                for first, past, frame in _on_display(container, stream, own):
                    yield done + first, done + past, scaler(frame)
            done = due


def read_sound(media: Media, *, start: float, seconds: float) -> Waveform:
    """The sound of a window, exactly as long as the window, in step with its pictures.

    The channels of the first stream of sound are averaged. Where the sound begins late, has a gap
    or ends early, it is padded with silence.

    Raises:
      BadInput: ``missing_file``; ``no_audio``, there is no stream of sound, or no sound in the
        window; ``unreadable_audio``, no sound can be decoded; ``too_slow``, as for ``opened``.
    """
    recordings = _recordings(media, "unreadable_audio")
    if len(recordings) == 1:
        return _sound(recordings[0][0], start, seconds)
    whole, failure = None, BadInput("no_audio", f"it ends before {start:g} s")
    for recording, begin, end in recordings:
        first, past = max(start, begin), min(start + seconds, end)
        if first >= past:
            continue
        try:
            heard = _sound(recording, first - begin, past - first)
        except BadInput as error:
            failure = error
            continue
        whole = whole or Waveform(np.zeros(round(seconds * heard.rate), np.float32), heard.rate)
        samples = decode.fit_sound(heard, round((past - first) * whole.rate), whole.rate)
        _lay(whole.samples, samples, round((first - start) * whole.rate))
    if whole is None:
        raise failure
    return whole


def _sound(media: Media, start: float, seconds: float) -> Waveform:
    """As ``read_sound``, of one recording."""
    with opened(media, "unreadable_audio") as container:
        stream = first_audio(container)
        if stream is None:
            raise BadInput("no_audio", "the file has no sound")
        rate, samples, heard = 0, None, 0
        for rate, place, mono in sound_parts(container, stream, start - _WARM_UP):
            if samples is None:
                samples, first = np.zeros(round(seconds * rate), np.float32), round(start * rate)
            if place - first >= len(samples):
                break
            heard += _lay(samples, mono, place - first)
        if samples is None:
            raise BadInput("unreadable_audio", "no sound can be decoded")
        if not heard:
            raise BadInput("no_audio", f"no sound from {start:g} s to {start + seconds:g} s")
        return Waveform(np.clip(samples, -1, 1), rate)


def sound_parts(
    container: av.container.InputContainer, stream: av.AudioStream, moment: float = 0.0
) -> Iterator[tuple[int, int, Float32[np.ndarray, "s"]]]:
    """The sound from ``moment``, in seconds, on; its channels are averaged.

    Yields:
      The rate in Hz, to which later frames of another are resampled; the index of the first sample
      from the start of the file; and the samples [s], without a gap unless the file has one.

    Raises:
      BadInput: ``unreadable_audio``, the rate is above 768 kHz, or falls to less than 1/100;
        ``too_slow``.
    """
    # Interleaved channels: of eight or more separate planes, PyAV reads beyond the last.
    converter = functools.cache(lambda *_: av.AudioResampler(format="flt", rate=rate))
    rate, cursor = 0, None
    for time, _, frame in _frames_from(container, stream, [moment]):
        rate = rate or frame.sample_rate
        if rate > min(_HIGHEST_RATE, _GREATEST_FALL * frame.sample_rate):
            raise BadInput("unreadable_audio", f"sound of {rate} Hz, then {frame.sample_rate} Hz")
        if cursor is None or abs(time * rate - cursor) > _JITTER * rate:
            cursor = round(time * rate)
        # The output of most decoders needs no conversion.
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        ready = kind[::2] == ("fltp", rate) and frame.layout.nb_channels <= 2
        for part in [frame] if ready else converter(*kind).resample(frame):
            samples = part.to_ndarray()
            if not ready:
                samples = samples.reshape(-1, part.layout.nb_channels).T
            yield rate, cursor, samples.mean(axis=0)
            cursor += samples.shape[1]


@contextlib.contextmanager
def opened(media: Media, reason: str) -> Iterator[av.container.InputContainer]:
    """Opens a file for the body of a ``with``.

    Raises:
      BadInput: ``missing_file``; ``too_slow``, the time of ``deadline`` is over, or opening took
        more than 1 s of processor time, as a damaged file of a few kilobytes can (the next call
        then refuses the file at once); ``reason`` for any other exception, also one in the body.
    """
    try:
        part = isinstance(media, joined.Part)
        # Opening a pipe would wait for a writer.
        if not isinstance(media, bytes) and not os.path.isfile(media.path if part else media):
            raise BadInput("missing_file", os.fspath(media.path if part else media))
        if _slow and hash(media) in _slow:
            raise BadInput("too_slow", f"it took more than {_OPENING_LIMIT:g} s to open before")
        begun = thread_time()
        held = io.BytesIO(media) if isinstance(media, bytes) else media.open() if part else None
        with av.open(
            held or os.fspath(media),
            options={"format_whitelist": _FORMATS},
            metadata_errors="replace",
            # The limit for opening, and for waiting for each packet.
            timeout=deadline.remaining(),
        ) as container:
            # FFmpeg cannot be stopped while it opens a file, so this file is never opened again.
            if thread_time() - begun > _OPENING_LIMIT:
                _slow.add(hash(media))
                raise BadInput("too_slow", f"more than {_OPENING_LIMIT:g} s to open it")
            for stream in container.streams:
                if stream.codec_context is not None:
                    # Many clips are decoded at once, so one thread for each is enough.
                    stream.codec_context.thread_count = 1
                    stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
            try:
                yield container
            finally:
                if part:
                    held.close()
    except BadInput:
        raise
    except Exception as error:  # damaged files raise nearly anything
        deadline.check()
        raise BadInput(reason, f"{type(error).__name__}: {error}") from error


def first_video(container):
    """The first stream of moving pictures, or None. The cover of a song does not count."""
    cover = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & cover), None)


def first_audio(container):
    """The first stream of sound, or None."""
    return next(iter(container.streams.audio), None)


def origin_of(container) -> float:
    """The time stamp, in seconds, at which the file starts. Broadcasts start at any time stamp. In
    all other files, players skip what is stamped before zero, which only warms up decoders.
    """
    start = (container.start_time or 0) / av.time_base
    return start if container.format.name in _BROADCAST else max(0.0, start)


def _measured_duration(container) -> float:
    """The duration in seconds by the last packet, for a file whose header does not state it."""
    stamped = (packet for packet in _packets(container) if packet.pts is not None)
    ends = (float((packet.pts + (packet.duration or 0)) * packet.time_base) for packet in stamped)
    return max(0.0, max([0.0, *ends]) - origin_of(container))


def _packets(container) -> Iterator[av.Packet]:
    """Packets of all streams from the current position on, until reading fails or a stream goes
    back in time: the times of packets after that are unknown.

    Raises:
      BadInput: ``too_slow``.
    """
    latest: dict[int, float] = {}
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux():
            deadline.check()
            if packet.dts is not None:
                time = packet.dts * packet.time_base
                before = latest.get(packet.stream_index, -math.inf)
                if time < before - _OUT_OF_ORDER:
                    break
                latest[packet.stream_index] = max(before, time)
            yield packet
    deadline.check()


def decoded(container, stream, moments: Sequence[float] = ()) -> Iterator:
    """Frames from the current position on; packets that cannot be decoded are skipped.

    Args:
      container, stream: of the file.
      moments: time stamps in seconds, in order. Frames that are not on display at any of them may
        be left out.

    Raises:
      BadInput: ``too_slow``.
      ValueError: there is no decoder for the stream.
    """
    if stream.codec_context is None:
        raise ValueError("no decoder for this stream")
    # All streams are read, and the others dropped here, with the deadline checked at each packet.
    # FFmpeg itself would skip any number of packets in one call.
    packets: Iterable = (packet for packet in _packets(container) if packet.stream is stream)
    if moments and stream.codec_context.name == "h264":
        packets = skipping(packets, stream, moments)
    for packet in packets:
        with contextlib.suppress(av.FFmpegError):
            yield from packet.decode()
    # Frames that the decoder still holds, even if the file broke off.
    with contextlib.suppress(av.FFmpegError):
        yield from stream.codec_context.decode(None)


def _frames_from(container, stream, moments: Sequence[float]) -> Iterator:
    """Yields (time, length, frame) in order, in seconds, from the frame that is on display at the
    first of ``moments`` or an earlier one. Pictures that are not on display at any of the moments
    may be left out.
    """
    origin = origin_of(container)
    for back in _FURTHER_BACK:
        target = max(-1.0, moments[0] - back)
        seek(container, stream, origin + target)
        stamps = [origin + moment for moment in moments]
        frames = timed(decoded(container, stream, stamps), stream, origin)
        first = next(frames, None)
        # Seeking goes by the time of decoding, which is not in the order of display.
        if target <= 0 or (first is not None and first[0] <= moments[0]):
            break
    if first is not None:
        yield first
        yield from frames


def _on_display(container, stream, moments: Sequence[float]) -> Iterator:
    """Yields (first, past, frame): a frame on display at the moments ``first`` to ``past`` - 1.

    Raises:
      BadInput: ``unreadable_video``; no frame can be decoded, or the file is cut off before the
        moments.
    """
    done, current, until = 0, None, -math.inf
    for time, length, frame in _frames_from(container, stream, moments):
        past = bisect.bisect_left(moments, time)
        if current is not None and past > done:
            yield done, past, current
            done = past
            if done == len(moments):
                return
        current, until = frame, time + length
    if current is None:
        raise BadInput("unreadable_video", "no picture can be decoded")
    if not done:
        _demand_whole(container, stream, moments[0], until)
    yield done, len(moments), current


def seek(container, stream, time: float) -> None:
    """Seeks to a time stamp of a stream, in seconds, or to a place before it."""
    try:
        container.seek(math.floor(time / stream.time_base), stream=stream)
    except av.FFmpegError:  # some formats cannot seek before the first packet
        container.seek(stream.start_time or 0, stream=stream)


def timed(frames: Iterable, stream, origin: float) -> Iterator:
    """Yields (time, length, frame) in seconds from ``origin``; both are guessed where missing."""
    due = 0.0
    for frame in frames:
        time = due if frame.time is None else frame.time - origin
        if isinstance(frame, av.AudioFrame):
            length = frame.samples / frame.sample_rate
        elif frame.duration:
            length = float(frame.duration * frame.time_base)
        else:
            length = float(1 / (stream.average_rate or 25))
        due = time + length
        yield time, length, frame


def _demand_whole(container, stream, moment: float, until: float) -> None:
    """Raises if the pictures ended before the window and before the stated end."""
    if stream.duration is not None:
        end = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        end -= origin_of(container)
    else:
        end = (container.duration or 0) / av.time_base
    if until < min(moment, end) - _EARLY_END:
        raise BadInput("unreadable_video", f"cut off: ends after {until:.2f} s of {end:.2f} s")


def _lay(samples: Float32[np.ndarray, "S"], part: Float32[np.ndarray, "s"], place: int) -> int:
    """Writes the samples of ``part`` that fit at ``place``; returns how many did."""
    begin, end = max(0, place), min(len(samples), place + len(part))
    if begin >= end:
        return 0
    samples[begin:end] = part[begin - place : end - place]
    return end - begin
