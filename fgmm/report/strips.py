"""Strips: the frames of a clip side by side, its spectrogram, and the maps laid over them.

The pictures hold frames, spectrograms and maps. The page draws text, boxes and marks over them,
from numbers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fgmm.report import pages

_SIDE = 112  # the least pixels of the longer side of a frame; the most are twice as many
_SOUND = 240, 112  # width and height of a spectrogram
_COLOURS = matplotlib.colormaps["inferno"]


class Box(NamedTuple):
    """An object in one of the frames shown.

    Attributes:
      frame: number of the frame among those shown.
      top, left, bottom, right: edges in fractions of the picture; they may reach beyond it.
      active: whether the phrase is true of the object in this frame.
    """

    frame: int
    top: float
    left: float
    bottom: float
    right: float
    active: bool


class Peak(NamedTuple):
    """The highest cell of a map.

    Attributes:
      frames: numbers of those frames shown that lie in the time of the cell.
      row, column: centre of the cell in fractions of the picture.
      hit: whether the cell is on an object of the phrase; None without objects.
    """

    frames: tuple[int, ...]
    row: float
    column: float
    hit: bool | None


class Block(NamedTuple):
    """A strip with a title and a line of details.

    Attributes:
      title, details: the text.
      map: values from 0 to 1 over the frames shown; None shows the frames alone.
      sound_map: values from 0 to 1 over the spectrogram; None shows the spectrogram alone.
      boxes: objects; their places count modulo ``period``.
      peak: of ``map``; None shows no mark.
      period: height and width, in fractions of the picture, after which a wrapping picture repeats.
      has_frames, has_sound: which parts the strip has.
      weights: the weight of the phrase among the phrases of its clip, by pair.
    """

    title: str
    details: str = ""
    map: Float[np.ndarray, "T h w"] | None = None
    sound_map: Float[np.ndarray, "t f"] | None = None
    boxes: Sequence[Box] = ()
    peak: Peak | None = None
    period: tuple[float, float] = (1.0, 1.0)
    has_frames: bool = True
    has_sound: bool = False
    weights: Mapping[str, float] = {}


class Sheet(NamedTuple):
    """One clip.

    Attributes:
      heading: lines of text; the first is the title, lines in quotes are captions.
      frames: the frames shown.
      frame_labels: a name for each frame; empty for a still picture.
      spectrogram: log-mel spectrogram of the sound, or None.
      sound_seconds: length of the sound in seconds.
      mel_ticks: a band, possibly between two bands, and the label of its frequency.
      blocks: strips from top to bottom.
    """

    heading: Sequence[str]
    frames: UInt8[np.ndarray, "T H W 3"]
    frame_labels: Sequence[str]
    spectrogram: Float[np.ndarray, "t f"] | None
    sound_seconds: float
    mel_ticks: Sequence[tuple[float, str]]
    blocks: Sequence[Block]


class Outline(NamedTuple):
    """A box in one frame, in fractions of the frame."""

    left: float
    top: float
    width: float
    height: float
    active: bool


class Frame(NamedTuple):
    """A frame as the page draws it.

    Attributes:
      left: its left edge in the picture of the strip, in pixels.
      outlines: the boxes in it.
      peak: column and row of the map's peak, in fractions; None if the peak is in another frame.
    """

    left: int
    outlines: list[Outline]
    peak: tuple[float, float] | None


class Strip(NamedTuple):
    """A block as the page draws it.

    Attributes:
      block: the block that is drawn.
      picture: data URL of all frames side by side; empty without frames.
      sound: data URL of the spectrogram; empty without sound.
      frames: from left to right.
    """

    block: Block
    picture: str
    sound: str
    frames: list[Frame]


class Drawn(NamedTuple):
    """A sheet as the page draws it.

    Attributes:
      sheet: the sheet that is drawn.
      height, width: of a frame, in pixels of the pictures.
      strips: one for each block.
      seconds: ticks of the spectrogram in time: a share of its width, and a label.
      pitches: ticks in frequency: a share of its height from the top, and a label.
    """

    sheet: Sheet
    height: int
    width: int
    strips: list[Strip]
    seconds: list[tuple[float, str]]
    pitches: list[tuple[float, str]]

    @property
    def said(self) -> list[str]:
        """Its captions."""
        return [line for line in self.sheet.heading[1:] if line.startswith("“")]

    @property
    def notes(self) -> list[str]:
        """The other lines of its heading, which are mostly the same for all sheets."""
        return [line for line in self.sheet.heading[1:] if not line.startswith("“")]


def drawn(sheet: Sheet) -> Drawn:
    """Draws the pictures of a sheet, and places the boxes and marks that are laid over them."""
    frames = _sized(sheet.frames)
    height, width = frames.shape[1:3]
    strips = []
    for block in sheet.blocks:
        picture = sound = ""
        if block.has_frames:
            picture = pages.inline(Image.fromarray(_side_by_side(frames, block.map)))
        if block.has_sound:
            sound = pages.inline(Image.fromarray(spectrogram(sheet.spectrogram, block.sound_map)))
        marked = [
            Frame(i * width, _outlines(block, i), _peak_in(block, i)) for i in range(len(frames))
        ]
        strips.append(Strip(block, picture, sound, marked if block.has_frames else []))
    bands = 1 if sheet.spectrogram is None else sheet.spectrogram.shape[1]
    return Drawn(
        *(sheet, height, width, strips),
        seconds=[(share, f"{share * sheet.sound_seconds:.1f} s") for share in (0.0, 0.5, 1.0)],
        pitches=[(1 - (band + 0.5) / bands, label) for band, label in sheet.mel_ticks],
    )


def _sized(frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T h w 3"]:
    """Frames in the size of the page: small ones are enlarged by whole factors, large ones shrunk.

    The longer side then has ``_SIDE`` to 2 · ``_SIDE`` pixels.
    """
    side = max(frames.shape[1:3])
    if side <= _SIDE:
        times = math.ceil(_SIDE / side)
        return frames.repeat(times, axis=1).repeat(times, axis=2)
    if side <= 2 * _SIDE:
        return frames
    size = [max(1, round(n * 2 * _SIDE / side)) for n in (frames.shape[2], frames.shape[1])]
    pictures = [Image.fromarray(f).resize(size, Image.Resampling.BOX) for f in frames]
    return np.stack([np.asarray(picture) for picture in pictures])


def _side_by_side(
    frames: UInt8[np.ndarray, "T H W 3"], heat: Float[np.ndarray, "T h w"] | None
) -> UInt8[np.ndarray, "H X 3"]:
    strip = np.concatenate(list(frames), axis=1)
    if heat is None:
        return strip
    smooth = [_smooth(of_frame, frames.shape[1:3]) for of_frame in heat]
    return _overlaid(strip / np.float32(255), np.concatenate(smooth, axis=1))


def spectrogram(
    log_mel: Float[np.ndarray, "t f"], heat: Float[np.ndarray, "segments bands"] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws a spectrogram, time to the right and frequency upwards.

    Args:
      log_mel: the spectrogram.
      heat: a map from 0 to 1 to lay over it, or None.
    """
    width, height = _SOUND
    level = log_mel - np.quantile(log_mel, 0.02)
    level = level / max(np.quantile(level, 0.995), 1e-6)
    level = np.clip(_smooth(level.T[::-1], (height, width)), 0, 1)
    if heat is None:
        return np.uint8(255 * matplotlib.colormaps["magma"](level)[..., :3])
    grey = np.repeat(level[..., None], 3, axis=-1)
    return _overlaid(grey, _smooth(heat.T[::-1], (height, width)))


def _overlaid(
    picture: Float[np.ndarray, "H W 3"], heat: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture, pale and dark, under a colour that covers it more where the map is higher."""
    heat = np.clip(heat, 0, 1)
    pale = 0.22 * picture + 0.38 * picture.mean(axis=-1, keepdims=True)
    cover = 0.9 * heat[..., None] ** 0.5
    colour = _COLOURS(0.15 + 0.85 * heat)[..., :3]
    return np.uint8(255 * np.clip((1 - cover) * pale + cover * colour, 0, 1))


def _smooth(values: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> np.ndarray:
    """A map resized to ``shape`` (rows, columns), bilinearly."""
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR))


def _outlines(block: Block, frame: int) -> list[Outline]:
    """The boxes in a frame, with the copies that come into view where the picture wraps."""
    found = []
    for box in block.boxes:
        if box.frame != frame:
            continue
        size = box.right - box.left, box.bottom - box.top
        for up in (-1, 0, 1):
            for left in (-1, 0, 1):
                x, y = box.left + left * block.period[1], box.top + up * block.period[0]
                if x < 1 and y < 1 and x + size[0] > 0 and y + size[1] > 0:
                    found.append(Outline(x, y, *size, box.active))
    return found


def _peak_in(block: Block, frame: int) -> tuple[float, float] | None:
    if block.peak is None or frame not in block.peak.frames:
        return None
    return block.peak.column, block.peak.row
