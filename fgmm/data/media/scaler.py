"""Converts decoded frames, with FFmpeg, to RGB pictures as players show them: upright, with square
pixels.
"""

from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from jaxtyping import UInt8

from fgmm.data.media import decode
from fgmm.data.schema import CROPPED, Resizing

# A pixel aspect ratio above this, or below its inverse, is taken for damage and ignored.
_MAX_PIXEL_ASPECT = 8
# Pixel formats that FFmpeg converts to RGB with vector instructions if the size stays.
_FAST_COLOURS = ("yuv420p", "yuvj420p")


class Orientation(NamedTuple):
    """The steps that make a coded picture upright, in this order.

    Attributes:
      swapped: rows and columns change places.
      mirrored: left and right change places.
      flipped: top and bottom change places.
    """

    swapped: bool
    mirrored: bool
    flipped: bool

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """The orientation nearest to a frame's display matrix; without a matrix, no step is taken.

        The matrix maps a place (x, y) to (a x + c y, b x + d y), y downward.
        """
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)
        if matrix is None:
            return cls(False, False, False)
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32).astype(np.int64)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def upright(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The picture made upright, as a view of it."""
        if self.swapped:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]


class Scaler:
    """Frames as they are shown, upright and with square pixels, in RGB.

    With a ``target`` (height, width) they are brought to that size by ``resizing``. Without it they
    are whole, shrunk to ``size`` pixels on the shorter side, and all have the size of the first.
    """

    def __init__(
        self,
        stream,
        size: int = 0,
        target: tuple[int, int] | None = None,
        resizing: Resizing = CROPPED,
    ):
        self._stream, self._size, self._target = stream, size, target
        self._resizing = resizing
        self._shape: tuple[int, int] | None = None
        # Kept for all frames, because setting them up takes longer than scaling a frame.
        self._resize = av.video.reformatter.VideoReformatter().reformat
        self._convert = av.video.reformatter.VideoReformatter().reformat

    def __call__(self, frame) -> UInt8[np.ndarray, "h w 3"]:
        """The picture, in the memory of FFmpeg's scaler; copy it before the next one."""
        orientation = Orientation.of(frame)
        if self._target is None:
            picture = self._scaled(frame, *self._whole(frame, orientation.swapped))
        else:
            height, width = self._target[::-1] if orientation.swapped else self._target
            bring = self._scaled if self._resizing.fit == "stretch" else self._cropped
            picture = bring(frame, height, width)
        return orientation.upright(picture)

    def _whole(self, frame, swapped: bool) -> tuple[int, int]:
        if self._shape is None:
            height, width = shown_size(frame, self._stream, self._size)
            self._shape = (width, height) if swapped else (height, width)
        return self._shape[::-1] if swapped else self._shape

    def _cropped(self, frame, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
        rows, columns = self._covering(frame, height, width)
        if rows * columns > decode.MOST_CUT_OFF * self._resizing.ratio**2 * height * width:
            whole = self._scaled(frame, *shown_size(frame, self._stream, None))
            return decode.fit_frames(whole[None], 1, height, width, resizing=self._resizing)[0]
        top, left = (rows - height) // 2, (columns - width) // 2
        picture = self._scaled(frame, rows, columns)
        return picture[top : top + height, left : left + width]

    def _covering(self, frame, height: int, width: int) -> tuple[int, int]:
        """The smallest size (rows, columns) of the whole picture that covers the target, times the
        ratio. Both are even, because the scaler is faster then.
        """
        shown = shown_size(frame, self._stream, None)
        scale = max(height / shown[0], width / shown[1]) * self._resizing.ratio
        rows, columns = max(height, round(shown[0] * scale)), max(width, round(shown[1] * scale))
        return rows + rows % 2, columns + columns % 2

    def _scaled(self, frame, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
        interpolation = self._resizing.filter.upper()
        to = {"width": width, "height": height, "interpolation": interpolation, "threads": 1}
        if frame.format.name in _FAST_COLOURS and (frame.height, frame.width) != (height, width):
            # Scaling first and converting colours then takes a third of the time of both at once.
            frame = self._resize(frame, **to)
        # The conversion to RGB respects the range and matrix of the colours.
        return _pixels(self._convert(frame, format="rgb24", **to))


def _pixels(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """The memory of a picture in RGB as an array."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, abs(plane.line_size))
    upright = rows if plane.line_size > 0 else rows[::-1]
    return upright[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def shown_size(frame: av.VideoFrame, stream: av.VideoStream, size: int | None) -> tuple[int, int]:
    """Height and width of a picture with square pixels, before it is turned.

    Args:
      size: the shorter side to which a larger picture is shrunk; None to keep its size.
    """
    height, width = float(frame.height), float(frame.width)
    aspect = float(stream.sample_aspect_ratio or 1)
    if 1 < aspect <= _MAX_PIXEL_ASPECT:
        width *= aspect
    elif 1 / _MAX_PIXEL_ASPECT <= aspect < 1:
        height /= aspect
    scale = min(1.0, size / min(height, width)) if size else 1.0
    return max(1, round(height * scale)), max(1, round(width * scale))
