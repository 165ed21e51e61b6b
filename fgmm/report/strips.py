"""Drawing of strips: the frames of a clip side by side, its sound, and what is laid over them.

All lengths are in pixels of the figure. Colours are in [0, 1].
"""

import math
import pathlib
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

_DPI = 100
_MARGIN = 14
_GAP = 3  # between frames
_BLOCK_GAP = 12
_LINE, _HEADING_LINE = 14, 16
_TICK_LABELS = 16  # below a strip
_SOUND, _TICKS = 230, 36  # a spectrogram, with the room to its left for frequencies
_WIDTH, _LEAST_WIDTH = 1180, 640  # of a page, unless one block alone is wider
_HIT, _MISS, _UNKNOWN = "#2ee66b", "#ff5d5d", "#ffffff"
_COLOURS = matplotlib.colormaps["inferno"]


class Box(NamedTuple):
    """An object in one of the frames shown, in fractions of the picture, as in ``Grounding``."""

    frame: int
    top: float
    left: float
    bottom: float
    right: float
    active: bool


class Peak(NamedTuple):
    """Where a map is highest: in which of the frames shown, and its place in each of them."""

    frames: tuple[int, ...]
    row: float
    column: float
    hit: bool | None


class Block(NamedTuple):
    """A strip with two lines of text above.

    Attributes:
      title, details: the text.
      map: over the frames shown, from 0 to 1; None shows the frames as they are.
      sound_map: over the spectrogram, likewise.
      boxes: objects, at any place modulo ``period``.
      peak: of ``map``.
      period: rows and columns after which a wrapping picture repeats itself.
      has_frames, has_sound: which parts of the strip there are.
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


class Sheet(NamedTuple):
    """One clip.

    Attributes:
      heading: lines above everything, the first of them large.
      frames: the frames shown.
      frame_labels: a name for each; none for a still picture.
      spectrogram: log-mel of the sound, or None.
      sound_seconds: how long it is.
      mel_ticks: bands and their frequencies in Hz.
      blocks: strips from top to bottom.
    """

    heading: Sequence[str]
    frames: UInt8[np.ndarray, "T H W 3"]
    frame_labels: Sequence[str]
    spectrogram: Float[np.ndarray, "t f"] | None
    sound_seconds: float
    mel_ticks: Sequence[tuple[float, str]]
    blocks: Sequence[Block]


class _Layout:
    """Where everything of a sheet stands: blocks in rows, as many side by side as fit."""

    def __init__(self, sheet: Sheet):
        count, height, width = sheet.frames.shape[:3]
        scale = (128 if count > 1 else 256) / max(height, width)
        if scale > 1:  # Whole pixels stay sharp, and the file small.
            scale = math.floor(scale)
        self.frame = round(height * scale), round(width * scale)
        frames_width = count * (self.frame[1] + _GAP) - _GAP
        self.sound_left = frames_width + _BLOCK_GAP
        has_sound = sheet.spectrogram is not None
        self.block_width = self.sound_left + _SOUND if has_sound else frames_width
        step = self.block_width + _BLOCK_GAP
        columns = max(1, (_WIDTH + _BLOCK_GAP) // step)
        self.width = max(columns * step, _LEAST_WIDTH) + 2 * _MARGIN

        self.heading = [line for text in sheet.heading for line in _wrapped(text, self.width)]
        self.titles = [_wrapped(block.title, self.block_width) for block in sheet.blocks]
        self.details = [_wrapped(block.details, self.block_width) for block in sheet.blocks]
        # Of each block the place of its text, and of the strip below.
        self.texts, self.strips = [], []
        y = _MARGIN + (len(self.heading) + 1) * _HEADING_LINE
        for start in range(0, len(sheet.blocks), columns):
            row = range(start, min(start + columns, len(sheet.blocks)))
            lines = max(len(self.titles[i]) + len(self.details[i]) for i in row)
            for column, _ in enumerate(row):
                x = _MARGIN + column * step
                self.texts.append((x, y))
                self.strips.append((x, y + lines * _LINE + 4))
            y += lines * _LINE + 4 + self.frame[0] + _BLOCK_GAP
            y += _TICK_LABELS if start == 0 else 0
        self.height = y + _MARGIN


def draw(sheet: Sheet, path: pathlib.Path) -> None:
    """Writes a sheet as a PNG with a palette."""
    layout = _Layout(sheet)
    page = _Page(layout.width, layout.height)
    for number, line in enumerate(layout.heading):
        style = {"size": 10.5, "weight": "bold"} if number == 0 else {"size": 8}
        page.text(_MARGIN, _MARGIN + number * _HEADING_LINE, line, **style)
    frames = _shrunken(sheet.frames, layout.frame)
    for i, block in enumerate(sheet.blocks):
        x, y = layout.texts[i]
        for line in layout.titles[i]:
            page.text(x, y, line, size=8, weight="bold")
            y += _LINE
        for line in layout.details[i]:
            page.text(x, y, line, size=8, color="#444444")
            y += _LINE
        x, y = layout.strips[i]
        if block.has_frames:
            labels = sheet.frame_labels if i == 0 else ()
            _draw_frames(page, (x, y), layout.frame, frames, block, labels)
        if block.has_sound:
            place = x + layout.sound_left + _TICKS, y, _SOUND - _TICKS, layout.frame[0]
            _draw_sound(page, place, sheet, block, labelled=i == 0)
    # With a palette noisy frames take a third of the space.
    palette = page.picture().quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(path)


class _Page:
    """A figure in pixels from its top left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)

    def picture(self) -> Image.Image:
        self._canvas.draw()
        return Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3])

    def text(self, x: int, y: int, text: str, **style) -> None:
        # Captions may hold a $, which is no formula.
        self.figure.text(
            x / self.width, 1 - y / self.height, text, va="top", parse_math=False, **style
        )

    def axes(self, x: int, y: int, width: int, height: int):
        bottom = self.height - y - height
        place = np.array([x, bottom, width, height], float)
        axes = self.figure.add_axes(tuple(place / ([self.width, self.height] * 2)))
        axes.set_xticks([])
        axes.set_yticks([])
        return axes


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(20, round(width / 6.1)))


def _shrunken(frames: UInt8[np.ndarray, "T H W 3"], size: tuple[int, int]):
    """Frames in [0, 1], no larger than they will be shown."""
    if frames.shape[1] > size[0]:
        pictures = [Image.fromarray(f).resize(size[::-1], Image.Resampling.BOX) for f in frames]
        frames = np.stack([np.asarray(picture) for picture in pictures])
    return frames.astype(np.float32) / 255


def _overlaid(picture: Float[np.ndarray, "H W 3"], heat: Float[np.ndarray, "H W"]):
    """A pale, darkened picture beneath a colour that covers it more, the higher the map."""
    pale = 0.22 * picture + 0.38 * picture.mean(axis=-1, keepdims=True)
    cover = 0.9 * np.clip(heat, 0, 1)[..., None] ** 0.5
    return (1 - cover) * pale + cover * _COLOURS(0.15 + 0.85 * np.clip(heat, 0, 1))[..., :3]


def _smooth(values: Float[np.ndarray, "h w"], shape: tuple[int, int]) -> np.ndarray:
    """A map at more places, linearly between the centres of its cells."""
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR))


def _draw_frames(page, corner, size, frames, block, labels) -> None:
    count, (height, width), step = len(frames), size, size[1] + _GAP
    strip = np.ones((height, count * step - _GAP, 3), np.float32)
    enlarge = height // frames.shape[1]
    for i, frame in enumerate(frames):
        if block.map is not None:
            frame = _overlaid(frame, _smooth(block.map[i], frame.shape[:2]))
        frame = frame.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
        strip[:, i * step : i * step + width] = frame
    axes = page.axes(*corner, strip.shape[1], height)
    axes.imshow(strip, extent=(0, strip.shape[1], height, 0), aspect="auto")
    axes.set_frame_on(False)
    for box in block.boxes:
        window = Rectangle((box.frame * step, 0), width, height, transform=axes.transData)
        for up in (-1, 0, 1):
            for left in (-1, 0, 1):
                _draw_box(axes, window, box, up * block.period[0], left * block.period[1])
    if block.peak is not None:
        colour = {True: _HIT, False: _MISS, None: _UNKNOWN}[block.peak.hit]
        for i in block.peak.frames:
            at = i * step + block.peak.column * width, block.peak.row * height
            axes.plot(*at, "+", color="black", markersize=10, markeredgewidth=3.2)
            axes.plot(*at, "+", color=colour, markersize=9, markeredgewidth=1.6)
    axes.set_xlim(0, strip.shape[1])
    axes.set_ylim(height, 0)
    if labels:
        axes.set_xticks([i * step + width / 2 for i in range(count)])
        axes.set_xticklabels(labels, size=7)
        axes.tick_params(length=0, pad=2)


def _draw_box(axes, window, box, up, left) -> None:
    x0, y0 = window.get_xy()
    width, height = window.get_width(), window.get_height()
    low, high = (box.top + up, box.left + left), (box.bottom + up, box.right + left)
    if high[0] <= 0 or high[1] <= 0 or low[0] >= 1 or low[1] >= 1:
        return
    outline = Rectangle(
        (x0 + low[1] * width, y0 + low[0] * height),
        (high[1] - low[1]) * width,
        (high[0] - low[0]) * height,
        fill=False,
        edgecolor="#4fd8ff",
        linewidth=1.3 if box.active else 0.9,
        linestyle="-" if box.active else (0, (2, 2)),
    )
    axes.add_patch(outline)
    outline.set_clip_path(window)


def _draw_sound(page, place, sheet, block, labelled: bool) -> None:
    x, y, width, height = place
    axes = page.axes(x, y, width, height)
    level = sheet.spectrogram - np.quantile(sheet.spectrogram, 0.02)
    level = level / max(np.quantile(level, 0.995), 1e-6)
    shape = height, width
    level = np.clip(_smooth(level.T, shape), 0, 1)
    if block.sound_map is None:
        picture = matplotlib.colormaps["magma"](level)[..., :3]
    else:
        heat = _smooth(block.sound_map.T, shape)
        picture = _overlaid(np.repeat(level[..., None], 3, axis=-1), heat)
    extent = (0, sheet.sound_seconds, 0, sheet.spectrogram.shape[1])
    axes.imshow(picture, extent=extent, aspect="auto", origin="lower")
    if labelled:
        seconds = np.linspace(0, sheet.sound_seconds, 3)
        axes.set_xticks(seconds, [f"{second:.1f} s" for second in seconds], size=7)
        axes.set_yticks(*zip(*sheet.mel_ticks, strict=True), size=7)
        axes.tick_params(length=2, pad=2)
