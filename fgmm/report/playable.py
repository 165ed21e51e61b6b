"""Clips in formats that a browser shows and plays."""

import fractions
import io
import math
import wave

import av
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from fgmm.data.media import decode
from fgmm.data.schema import BadInput, Clip, FrameWriter, Waveform
from fgmm.report import pages

# The most pictures in a strip, their height in pixels, and the shorter side of a video.
MOST_FRAMES, STRIP_HEIGHT, SIDE = 8, 160, 320
# Frames a second of a video made for the page, and the most frames.
_RATE, _MOST_PICTURES = 8, 240


def strip(clip: Clip, cells: int) -> tuple[UInt8[np.ndarray, "h X 3"], int]:
    """Frames of a clip side by side, and how many: one from the middle of each equal part of time.

    Args:
      clip: with frames.
      cells: time steps of the feature map; at most ``MOST_FRAMES`` frames are shown.

    Raises:
      BadInput: the clip has no frames, or they cannot be read.
    """
    if clip.video is None:
        raise BadInput("no_video", clip.clip_id)
    count = min(cells, MOST_FRAMES)
    frames = _frames(clip, count, STRIP_HEIGHT)
    chosen = frames[decode.chosen_frames(len(frames), count)]
    size = max(1, round(chosen.shape[2] * STRIP_HEIGHT / chosen.shape[1])), STRIP_HEIGHT
    pictures = [np.asarray(Image.fromarray(frame).resize(size)) for frame in chosen]
    return np.concatenate(pictures, axis=1), count


def media(clip: Clip, seconds: float) -> tuple[str, bytes]:
    """The MIME type and contents of a file that a browser plays.

    It is an MP4 of frames with their sound, a WAV without frames, or a WebP for one frame without
    sound.

    Args:
      clip: the clip.
      seconds: its length; 0 for the length of its sound, or at 8 frames a second without sound.

    Raises:
      BadInput: the clip has neither frames nor sound, or its frames cannot be read.
    """
    heard = _heard(clip)
    if clip.video is None:
        if heard is None:
            raise BadInput("no_audio", clip.clip_id)
        return "audio/wav", _wav(heard)
    frames = _frames(clip, min(_MOST_PICTURES, math.ceil(_RATE * (seconds or 4))), SIDE)
    if heard is None and len(frames) == 1:
        return "image/webp", pages.webp(Image.fromarray(frames[0]), quality=90)
    seconds = seconds or (len(heard.samples) / heard.rate if heard else len(frames) / _RATE)
    return "video/mp4", _mp4(frames, heard, seconds)


def _frames(clip: Clip, count: int, side: int) -> UInt8[np.ndarray, "T h w 3"]:
    video = clip.video
    if isinstance(video, bytes):
        return decode.read_image(video, side, side)
    frames = video.frames(count, side) if isinstance(video, FrameWriter) else video()
    if not len(frames):
        raise BadInput("no_video", clip.clip_id)
    return frames


def _heard(clip: Clip) -> Waveform | None:
    try:
        return clip.audio() if clip.audio else None
    except BadInput:  # the frames may still play
        return None


def _wav(heard: Waveform) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(heard.rate)
        file.writeframes(_int16(heard.samples).tobytes())
    return out.getvalue()


def _int16(samples: Float32[np.ndarray, "S"]) -> np.ndarray:
    return np.round(32767 * np.clip(samples, -1, 1)).astype("<i2")


def _mp4(frames: UInt8[np.ndarray, "T h w 3"], heard: Waveform | None, seconds: float) -> bytes:
    out = io.BytesIO()
    height, width = (max(2, side - side % 2) for side in frames.shape[1:3])  # for H.264
    with av.open(out, "w", format="mp4") as container:
        rate = fractions.Fraction(len(frames) / max(seconds, 0.1)).limit_denominator(1000)
        pictures = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=heard.rate) if heard else None
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame[:height, :width]), format="rgb24"
            )
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode())
        if heard:
            samples = av.AudioFrame.from_ndarray(_int16(heard.samples)[None], "s16", "mono")
            samples.sample_rate = heard.rate
            container.mux(sound.encode(samples))
            container.mux(sound.encode())
    return out.getvalue()
