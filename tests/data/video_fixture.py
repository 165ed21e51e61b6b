"""Small video and sound files, made from nothing, whose pictures and sounds tell their time."""

import fractions
import pathlib
from collections.abc import Sequence

import av
import numpy as np
import pytest
from jaxtyping import Float32, UInt8

from fgmm.data.media import av_files
from fgmm.data.schema import BadInput

# Bits of a picture's number, in two rows of four blocks.
_ROWS, _COLUMNS = 2, 4
FPS = 20
RATE = 16_000


def numbered(number: int, height: int = 48, width: int = 64) -> UInt8[np.ndarray, "h w 3"]:
    """A picture that shows its number, below 256, as black and white blocks."""
    bits = np.array([number >> bit & 1 for bit in range(_ROWS * _COLUMNS)], np.uint8) * 255
    blocks = bits.reshape(_ROWS, _COLUMNS)
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    return np.repeat(blocks[rows][:, columns, None], 3, axis=2)


def number_of(picture: UInt8[np.ndarray, "h w 3"]) -> int:
    """The number that a picture shows, at any size."""
    height, width = picture.shape[:2]
    rows = (np.arange(_ROWS) * 2 + 1) * height // (2 * _ROWS)
    columns = (np.arange(_COLUMNS) * 2 + 1) * width // (2 * _COLUMNS)
    bits = picture[rows][:, columns].mean(axis=2).reshape(-1) > 127
    return sum(1 << bit for bit, is_white in enumerate(bits.tolist()) if is_white)


def sung(seconds: float) -> Float32[np.ndarray, "S"]:
    """A sound whose pitch rises with time, 16,000 samples a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * (100 * time + 20 * time**2))).astype(np.float32)


def write_video(
    path: pathlib.Path,
    pictures: Sequence[np.ndarray] = (),
    *,
    times: Sequence[float] | None = None,
    sound: Float32[np.ndarray, "S"] | None = None,
    sound_start: float = 0.0,
    codec: str = "mpeg4",
    sound_codec: str = "aac",
    form: str | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    matrix: Sequence[int] = (),
    aspect: fractions.Fraction | None = None,
) -> pathlib.Path:
    """Encodes pictures and mono sound; returns the file.

    Args:
      path: of the file; its ending says the format, if ``form`` does not.
      pictures: of one size, shown ``FPS`` a second or at ``times`` in seconds.
      sound: of rate ``RATE``, beginning ``sound_start`` seconds after the file.
      rotation: degrees counterclockwise by which players turn the pictures.
      matrix: of display, nine numbers of which the first two of three are in 65536ths.
      aspect: width to height of a pixel.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        if len(pictures):
            stream = container.add_stream(codec, rate=FPS)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt, stream.gop_size = "yuv420p", 10
            stream.bit_rate = 2_000_000
            stream.codec_context.max_b_frames = 2 if codec == "mpeg4" else 0
            if rotation:
                stream.set_display_rotation(rotation)
            if matrix:
                stream.set_display_matrix(matrix)
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
        if sound is not None:
            heard = container.add_stream(sound_codec, rate=RATE)
            heard.layout = "mono"
        # In the order of their times, as files have them.
        packets = []
        base = fractions.Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            time = number / FPS if times is None else times[number]
            frame.pts, frame.time_base = round(time * 1000), base
            packets += stream.encode(frame)
        packets += stream.encode(None) if len(pictures) else []
        if sound is not None:
            form_of_samples = heard.codec_context.format.name
            for first in range(0, len(sound), 1024):
                part = sound[first : first + 1024][None]
                if form_of_samples.startswith("s16"):
                    part = np.round(part * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part, format=form_of_samples, layout="mono")
                frame.rate = RATE
                frame.pts = first + round(sound_start * RATE)
                frame.time_base = fractions.Fraction(1, RATE)
                packets += heard.encode(frame)
            packets += heard.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def write_narrated_videos(folder: pathlib.Path, videos: int) -> pathlib.Path:
    """A folder of short videos with captions that say which number they begin with."""
    for number in range(videos):
        pictures = [numbered((number + i) % 256) for i in range(FPS)]
        write_video(folder / f"{number}.mp4", pictures, sound=sung(1.0))
        spoken = f"the number {number} is shown in black and white"
        (folder / f"{number}.vtt").write_text(f"WEBVTT\n\n00:00.000 --> 00:01.000\n{spoken}\n")
    return folder


def write_howto100m(folder: pathlib.Path, videos: int) -> pathlib.Path:
    """The videos of ``write_narrated_videos`` in HowTo100M's layout."""
    write_narrated_videos(folder / "videos", videos)
    (folder / "captions").mkdir()
    for caption in (folder / "videos").glob("*.vtt"):
        spoken = caption.read_text().splitlines()[-1]
        rows = f"start,end,text\n0.0,0.5,{spoken}\n0.5,1.0,and then something else\n"
        (folder / "captions" / f"{caption.stem}.csv").write_text(rows)
    names = "".join(f"{number},Crafts\n" for number in range(videos))
    (folder / "HowTo100M_v1.csv").write_text(f"video_id,category_1\n{names}")
    return folder


def reason(read, *arguments, **options) -> str:
    """Why a reader refuses, which it must."""
    with pytest.raises(BadInput) as caught:
        read(*arguments, **options)
    return caught.value.reason


def read_all(file):
    """Every reader on a file; the reasons where they fail."""
    window = {"start": 0.0, "seconds": 1.0}
    found = []
    for read, options in (
        (av_files.read_header, {}),
        (av_files.read_frames, {**window, "count": 2, "size": 32}),
        (av_files.read_sound, window),
    ):
        try:
            found.append(read(file, **options))
        except BadInput as error:
            found.append(error.reason)
    return found
