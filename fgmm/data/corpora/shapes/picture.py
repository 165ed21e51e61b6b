"""How a scene looks: coloured sprites over a cluttered background, under grain."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8

from fgmm.data.corpora.shapes.scene import (
    COLOURS,
    SHAPES,
    SIZES,
    TURNS,
    Item,
    Scene,
    World,
    centres,
    generator,
)

_RADII = {"small": 6 / 64, "large": 10 / 64}  # of the circle, in widths of the picture
_RGB = {
    "red": (214, 24, 32),
    "orange": (224, 116, 0),
    "yellow": (222, 212, 16),
    "green": (18, 150, 36),
    "cyan": (32, 210, 214),
    "blue": (28, 52, 214),
    "purple": (150, 30, 190),
    "white": (224, 224, 224),
}
_GRAIN = 32  # levels; no colour above 255 - _GRAIN may be painted
_SUPERSAMPLE = 4
_PATCHES = 7


class _Sprite(NamedTuple):
    """The pixels that an object covers, M of them, relative to its centre.

    Attributes:
      rows, cols: [1, M] offsets in pixels.
      colour, beneath: uint16 [M, 3] share, out of 256, of the object's colour and of what lies
        beneath it, alike for red, green and blue; the dark rim takes the rest.
      box: first row, first column, last row + 1, last column + 1.
    """

    rows: np.ndarray
    cols: np.ndarray
    colour: np.ndarray
    beneath: np.ndarray
    box: np.ndarray


def render(scene: Scene, world: World, stream: tuple[int, ...]) -> UInt8[np.ndarray, "T H W 3"]:
    """The frames of a scene. Objects lie over distractors, small ones over large ones.

    Background and grain depend on ``stream`` (see ``generator``) alone, so without one object the
    frames differ only where that object is seen.
    """
    rng = generator(*stream)
    still = _background(rng, world.size)[None]
    for item in scene.distractors:
        _paint(still, item, centres(item, world)[:1])
    frames = np.repeat(still, world.frames, axis=0)
    for item in sorted(scene.movers, key=lambda item: -item.size):
        _paint(frames, item, centres(item, world))
    grain = np.frombuffer(rng.bytes(frames.size), np.uint8).reshape(frames.shape)
    frames += grain & (_GRAIN - 1)
    return frames


def boxes(item: Item, world: World) -> Float64[np.ndarray, "T 4"]:
    """The object's extent in every frame as (top, left, bottom, right) in fractions of the frame.

    Objects are cut by no border: where the picture wraps, a box reaches beyond 0 or 1.
    """
    sprite = _sprite(item.shape, item.size, item.turn, world.size)
    places = centres(item, world)
    return (np.concatenate([places, places], axis=1) + sprite.box) / world.size


def _paint(frames: np.ndarray, item: Item, places: np.ndarray) -> None:
    """Blends an object into frames uint8 [T, H, W, 3] with its centre at places [T, 2]."""
    count, size = frames.shape[:2]
    sprite = _sprite(item.shape, item.size, item.turn, size)
    ring = np.arange(2 * size) % size  # wraps places from -2 * size to 2 * size - 1
    rows = ring[places[:, :1] + sprite.rows]
    cols = ring[places[:, 1:] + sprite.cols]
    chosen = (np.arange(count)[:, None] * size + rows) * size + cols  # [T, M]
    # A pixel is one item of three bytes: NumPy moves those faster than rows of three items.
    pixels = frames.reshape(-1).view("V3")
    ink = sprite.colour * np.array(_RGB[COLOURS[item.colour]], np.uint16)
    seen = pixels.take(chosen).view(np.uint8).reshape(*chosen.shape, 3)
    blend = (seen * sprite.beneath + ink) >> 8
    pixels[chosen] = blend.astype(np.uint8).reshape(len(blend), -1).view("V3")


@functools.cache
def _sprite(shape: int, size: int, turn: int, width: int) -> _Sprite:
    """Draws an object with a dark rim around it, at a finer resolution, and averages the pixels."""
    radius = _RADII[SIZES[size]] * width
    reach = int(np.ceil(1.3 * radius)) + 2
    fine = (np.arange((2 * reach + 1) * _SUPERSAMPLE) + 0.5) / _SUPERSAMPLE - reach - 0.5
    angle = 2 * np.pi * turn / TURNS
    x = (np.cos(angle) * fine[None] + np.sin(angle) * fine[:, None]) / radius
    y = (np.cos(angle) * fine[:, None] - np.sin(angle) * fine[None]) / radius
    inside = _inside(SHAPES[shape], x, y)
    rim = np.zeros_like(inside)
    for way in np.arange(16) * np.pi / 8:
        pixel = np.rint(_SUPERSAMPLE * np.array([np.sin(way), np.cos(way)])).astype(int)
        rim |= np.roll(inside, pixel, axis=(0, 1))

    def coverage(mask):
        cells = mask.reshape(2 * reach + 1, _SUPERSAMPLE, 2 * reach + 1, _SUPERSAMPLE)
        return cells.mean(axis=(1, 3))

    rows, cols = np.nonzero(coverage(rim) > 0.1)
    offsets = np.stack([rows, cols]) - reach

    def out_of_256(share):
        return np.repeat(np.floor(256 * share[rows, cols, None]).astype(np.uint16), 3, axis=1)

    return _Sprite(
        rows=offsets[:1],
        cols=offsets[1:],
        colour=out_of_256(coverage(inside)),
        beneath=out_of_256(1 - coverage(rim)),
        box=np.concatenate([offsets.min(axis=1), offsets.max(axis=1) + 1]),
    )


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points lie in a shape around the origin. All shapes have about the same area."""
    distance = np.hypot(x, y)
    match shape:
        case "circle":
            return distance < 1
        case "ring":
            return (distance < 1.1) & (distance > 0.55)
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) < 0.88
        case "triangle":
            return np.maximum(y, np.sqrt(0.75) * np.abs(x) - y / 2) < 0.66
        case "cross":
            return (np.minimum(np.abs(x), np.abs(y)) < 0.34) & (
                np.maximum(np.abs(x), np.abs(y)) < 1.15
            )
        case "star":
            # Fold the plane into one of ten wedges: there the outline is a straight line from a
            # tip (at angle 0) to a notch (at angle pi / 5).
            angle = np.abs((np.arctan2(y, x) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
            along, across = distance * np.cos(angle), distance * np.sin(angle)
            tip, notch_x, notch_y = 1.3, 0.6 * np.cos(np.pi / 5), 0.6 * np.sin(np.pi / 5)
            return (tip - along) * notch_y > across * (tip - notch_x)
    raise ValueError(f"unknown shape {shape!r}")


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Coarse and finer cloudy noise with half-transparent patches on it, uint8 [H, W, 3]."""
    coarse = _clouds(rng, size, cells=4, contrast=44.0)
    fine = _clouds(rng, size, cells=16, contrast=52.0)
    picture = (104 + coarse + fine).astype(np.uint8)
    edges = np.sort(rng.integers(size, size=(_PATCHES, 2, 2)), axis=1).tolist()
    for ((top, left), (bottom, right)), colour in zip(
        edges, rng.integers(30, 95, size=(_PATCHES, 3), dtype=np.uint8), strict=True
    ):
        bottom, right = min(bottom, top + size // 3), min(right, left + size // 3)
        picture[top:bottom, left:right] = picture[top:bottom, left:right] // 2 + colour
    return picture


def _clouds(rng: np.random.Generator, size: int, cells: int, contrast: float) -> np.ndarray:
    """A grid of random, slightly coloured greys, enlarged smoothly: float32 [H, W, 3]."""
    grid = rng.random((cells, cells, 4), dtype=np.float32)
    grid = contrast * (0.7 * grid[..., :1] + 0.3 * grid[..., 1:] - 0.5) * 2
    blow_up = _interpolation(size, cells)
    tall = (blow_up @ grid.reshape(cells, -1)).reshape(size, cells, 3)
    return blow_up @ tall


@functools.cache
def _interpolation(size: int, cells: int) -> np.ndarray:
    """Linear interpolation of a ring of ``cells`` values at ``size`` places: [size, cells]."""
    gap = np.abs(np.arange(size)[:, None] * (cells / size) - np.arange(cells))
    return np.maximum(0, 1 - np.minimum(gap, cells - gap)).astype(np.float32)
