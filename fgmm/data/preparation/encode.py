"""Encodes recordings again: smaller, at a constant frame rate, with frequent key frames, with sound
in mono at a lower rate.

Pictures and sound keep the times at which players present them. A stream that needs no change is
copied.
"""

import dataclasses
import fractions
import io
import itertools
import math
from collections.abc import Iterable, Iterator

import av
import numpy as np
from PIL import Image, ImageOps

from fgmm.config import ConfigError
from fgmm.data.media import av_files
from fgmm.data.media.scaler import Orientation, shown_size
from fgmm.data.preparation.raw import KINDS
from fgmm.data.schema import BadInput

# x264's quality (crf) and speed (preset).
QUALITY, PRESET = "23", "fast"
JPEG_QUALITY = 90
# Ticks a second of the time stamps written.
_CLOCK = 90_000
# Seconds between key frames if only a size or a rate was asked for.
_GOP_SECONDS = 1.0
# For containers: without it, Matroska files contain random numbers.
REPRODUCIBLE = {"fflags": "+bitexact"}
# The type of a picture: a key frame, or what x264 chooses.
_KEY, _ANY = av.video.frame.PictureType.I, av.video.frame.PictureType.NONE
# The longest gap in sound that is filled with silence; a longer one is damage.
_LONGEST_GAP = 600
# MP4 holds all codecs but old ones; a stream of these is copied into Matroska.
_CONTAINERS = {"video": ("mp4", "matroska"), "audio": ("flac",)}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How recordings are encoded; 0 leaves a property as it is.

    Attributes:
      short_side: larger pictures are shrunk to so many pixels on the shorter side.
      fps: pictures a second.
      gop_seconds: the most seconds from one key frame to the next, at the average frame rate. At
        most so much is decoded to reach a moment. 1 if pictures are encoded again for another
        reason.
      audio_rate: samples a second; the sound becomes mono.
      piece_seconds: the length of the pieces that ``pieces.cut`` makes. Each begins with a key
        frame.
    """

    short_side: int = 0
    fps: float = 0.0
    gop_seconds: float = 0.0
    audio_rate: int = 0
    piece_seconds: float = 0.0

    def __post_init__(self):
        for key, value in dataclasses.asdict(self).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"--{key}={value} must be at least 0, and finite")
        for codec in ("libx264",) * self.pictures + ("aac", "flac") * bool(self.audio_rate):
            if codec not in av.codecs_available:
                raise ConfigError(
                    f"this build of PyAV has no encoder {codec}; install PyAV from its wheel: pip "
                    "install av"
                )

    @property
    def pictures(self) -> bool:
        """Whether pictures are encoded again."""
        return bool(self.short_side or self.fps or self.gop_seconds)

    def again(self, kind: str) -> bool:
        """Whether recordings of a kind are encoded again (the pictures of a video, or sound without
        pictures), so that they can be cut.
        """
        return {"video": self.pictures, "audio": self.audio_rate > 0}.get(kind, False)


def encoded(data: bytes, kind: str, encoding: Encoding, *, sound: bool = True) -> bytes:
    """A recording encoded again; the same bytes if ``encoding`` changes nothing.

    What is encoded again becomes H.264 and AAC in a video, FLAC for sound without pictures, and
    JPEG for a picture. A video is an MP4 file, or Matroska if MP4 cannot hold a copied stream.

    Args:
      data: contents of a file that ``fgmm.data.media.av_files`` can read.
      kind: one of ``KINDS``.
      encoding: what is changed.
      sound: False leaves out the sound of a video, for sound that cannot be decoded.

    Raises:
      BadInput: ``unreadable_video``, ``unreadable_audio`` or ``too_slow``.
      ValueError: ``kind`` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; known: {', '.join(KINDS)}")
    if kind == "image":
        return _smaller_picture(data, encoding.short_side) if encoding.short_side else data
    if not encoding.audio_rate and not (encoding.pictures and kind == "video"):
        return data
    *others, last = _CONTAINERS[kind]
    for form in others:
        try:
            return _written(data, form, encoding, kind == "video", sound)
        except BadInput:
            continue
    return _written(data, last, encoding, kind == "video", sound)


def _smaller_picture(data: bytes, short_side: int) -> bytes:
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            scale = short_side / min(upright.size)
            # Pillow would clip 16 bits, not scale them.
            if scale >= 1 or upright.mode.startswith("I;16"):
                return data
            size = tuple(max(1, round(side * scale)) for side in upright.size)
            out = io.BytesIO()
            # Antialiased, and put on white if it is transparent.
            shrunk = upright.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
            opaque = Image.alpha_composite(Image.new("RGBA", size, "white"), shrunk).convert("RGB")
            opaque.save(out, "JPEG", quality=JPEG_QUALITY)
            return out.getvalue()
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise BadInput("unreadable_video", f"{type(error).__name__}: {error}") from error


def _written(data: bytes, form: str, encoding: Encoding, video: bool, sound: bool) -> bytes:
    out = io.BytesIO()
    with (
        av_files.opened(data, f"unreadable_{'video' if video else 'audio'}") as source,
        av.open(out, "w", format=form, options=REPRODUCIBLE) as target,
    ):
        packets = []
        pictures, heard = av_files.first_video(source), av_files.first_audio(source)
        if video and pictures is not None:
            convert = _pictures if encoding.pictures else _copied
            packets += convert(source, pictures, target, encoding)
        if sound and heard is not None:
            convert = _sound if encoding.audio_rate else _copied
            packets += convert(source, heard, target, encoding)
        target.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return out.getvalue()


def _copied(source, stream, target, encoding: Encoding) -> list:
    del encoding
    result = target.add_stream_from_template(stream, opaque=True)
    origin = round(av_files.origin_of(source) / stream.time_base)
    _rewind(source, stream)
    packets = with_decoding_times(source.demux(stream))
    for packet in packets:
        packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
        packet.stream = result
    return packets


def with_decoding_times(packets: Iterable[av.Packet]) -> list[av.Packet]:
    """Packets of a stream that have a time of display, each with a time of decoding. In Matroska
    the first packets have no time of decoding; they get the latest that later packets allow.
    """
    shown, after = [packet for packet in packets if packet.pts is not None], math.inf
    for packet in reversed(shown):
        if packet.dts is None:
            packet.dts = min(packet.pts, after - 1)
        after = packet.dts
    return shown


def _pictures(source, stream, target, encoding: Encoding) -> list:
    rate = fractions.Fraction(encoding.fps or stream.average_rate or 25).limit_denominator(1001)
    graph = result = None
    packets, piece = [], 0.0
    for frame in itertools.chain(_from_zero(source, stream), [None]):
        if frame is None and graph is None:
            raise BadInput("unreadable_video", "no picture can be decoded")
        if graph is None:
            graph, (width, height) = _scaler(stream, frame, encoding)
            result = target.add_stream("libx264", rate=rate)
            result.width, result.height, result.pix_fmt = width, height, "yuv420p"
            result.options = {"crf": QUALITY, "preset": PRESET}
            _keep_colours(frame, result.codec_context)
            result.codec_context.time_base = fractions.Fraction(1, _CLOCK)
            result.codec_context.thread_count = 1
            result.gop_size = max(1, round((encoding.gop_seconds or _GOP_SECONDS) * rate))
        graph.vpush(frame)
        for scaled in _pulled(graph):
            before, piece = piece, scaled.time // (encoding.piece_seconds or math.inf)
            scaled.pict_type = _KEY if piece > before else _ANY
            packets += result.encode(scaled)
    return packets + result.encode(None)


def _keep_colours(frame, context) -> None:
    """Copies the colour properties of a picture; scaling changes only the range."""
    context.color_range = av.video.reformatter.ColorRange.MPEG
    for name in ("colorspace", "color_primaries", "color_trc"):
        setattr(context, name, getattr(frame, name))


def _from_zero(source, stream) -> Iterator:
    """Frames stamped with their time of display, which increases."""
    _rewind(source, stream)
    last = -1
    for time, _, frame in av_files.timed(
        av_files.decoded(source, stream), stream, av_files.origin_of(source)
    ):
        stamp = max(0, round(time * _CLOCK))
        if stamp > last:
            frame.pts, frame.time_base, last = stamp, fractions.Fraction(1, _CLOCK), stamp
            yield frame


def _rewind(source, stream) -> None:
    """Seeks to the first packet of a stream, which may be before time zero."""
    av_files.seek(source, stream, av_files.origin_of(source) - 1)


def _scaler(stream, frame, encoding: Encoding) -> tuple[av.filter.Graph, tuple[int, int]]:
    """A filter that scales pictures and makes them upright, with square pixels; and the size
    (width, height) of its output.
    """
    turn = Orientation.of(frame)
    height, width = shown_size(frame, stream, encoding.short_side or None)
    height, width = (max(2, 2 * round(side / 2)) for side in (height, width))
    filters = [("fps", f"{encoding.fps}:eof_action=pass")] if encoding.fps else []
    filters += [("scale", f"{width}:{height}:out_range=tv"), ("setsar", "1"), ("format", "yuv420p")]
    filters += [("transpose", "cclock_flip")] * turn.swapped
    filters += [("hflip", "")] * turn.mirrored + [("vflip", "")] * turn.flipped
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=fractions.Fraction(1, _CLOCK),
        )
    ]
    nodes += [graph.add(name, options or None) for name, options in filters]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph, (height, width) if turn.swapped else (width, height)


def _pulled(graph) -> Iterator:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _sound(source, stream, target, encoding: Encoding) -> list:
    lossless = target.format.name == "flac"
    result = target.add_stream("flac" if lossless else "aac", rate=encoding.audio_rate)
    result.layout = "mono"
    to_rate = av.AudioResampler(
        format="s16" if lossless else "fltp", layout="mono", rate=encoding.audio_rate
    )
    packets, rate, cursor = [], 0, 0
    for rate, place, mono in av_files.sound_parts(source, stream):
        if place - cursor > _LONGEST_GAP * rate:
            raise BadInput("unreadable_audio", f"a gap of {(place - cursor) / rate:.0f} s")
        # Silence at the start and in gaps; sound that overlaps earlier sound is left out.
        mono = np.concatenate([np.zeros(max(0, place - cursor), np.float32), mono])
        part = np.clip(mono[max(0, cursor - place) :], -1, 1)[None]
        if part.size:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(part, np.float32), format="fltp", layout="mono"
            )
            frame.rate, frame.pts, frame.time_base = rate, cursor, fractions.Fraction(1, rate)
            cursor += part.shape[1]
            for resampled in to_rate.resample(frame):
                packets += result.encode(resampled)
    if rate:
        for resampled in to_rate.resample(None):
            packets += result.encode(resampled)
    return packets + result.encode(None)
