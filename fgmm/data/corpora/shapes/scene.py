"""What a clip shows: objects with a shape, a colour and a size, of which some move for a while.

The picture wraps round (it is a torus), and an object's place is drawn uniformly and independently
of everything else. So its position in any single frame is uniform whatever the object does, and one
still frame says nothing about motion.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SIZES = ("small", "large")
MOTIONS = ("left", "right", "up", "down", "clockwise", "counterclockwise", "shaking", "bouncing")
TURNS = 24  # orientations of an object in a full turn

_SPEED = 0.26  # left, right, up, down: widths of the picture a second
_CIRCLE_RADIUS = 0.13  # widths
_CIRCLE_SECONDS = 1.7  # a turn
_SHAKE_REACH = 0.10  # widths
_SHAKE_SECONDS = 1.0  # there and back
_HOP_HEIGHT = 0.15  # widths
_HOP_SECONDS = 0.75


class World(NamedTuple):
    """Extent and resolution of every clip: a square picture of ``size`` pixels, mono sound."""

    size: int
    frames: int
    fps: float
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def samples(self) -> int:
        return round(self.seconds * self.sample_rate)


class Item(NamedTuple):
    """One object of a scene.

    Attributes:
      shape, colour, size: indices into ``SHAPES``, ``COLOURS`` and ``SIZES``.
      turn: its fixed orientation, out of ``TURNS``.
      row, col: where its centre rests before it moves, in pixels.
      motion: index into ``MOTIONS``; None for a distractor, which neither moves nor sounds.
      start, stop: it moves from frame ``start`` until frame ``stop``.
      pace: factor on its speed, or on the reach of its motion.
      phase: where in its motion it begins, in turns.
    """

    shape: int
    colour: int
    size: int
    turn: int
    row: int
    col: int
    motion: int | None
    start: int
    stop: int
    pace: float
    phase: float

    @property
    def pair(self) -> tuple[int, int]:
        """Shape and colour: unique within a scene, so they are enough to name the object."""
        return self.shape, self.colour


class Scene(NamedTuple):
    """Moving objects, then distractors; all differ in (shape, colour)."""

    movers: tuple[Item, ...]
    distractors: tuple[Item, ...]

    @property
    def pairs(self) -> set[tuple[int, int]]:
        return {item.pair for item in self.movers + self.distractors}


def generator(seed: int, *path: int) -> np.random.Generator:
    """The random stream of one thing (say, a clip's picture), named by a path of small numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=path)))


def draw_scene(
    rng: np.random.Generator,
    world: World,
    movers: int,
    distractors: int,
    motion: int | None = None,
    shape: int | None = None,
) -> Scene:
    """Draws a scene; ``motion`` or ``shape``, where given, is common to all moving objects."""
    shapes, colours = _draw_pairs(rng)
    if shape is not None:
        order = np.argsort(shapes != shape, kind="stable")
        order[movers:] = rng.permutation(order[movers:])
        shapes, colours = shapes[order], colours[order]
    pairs = itertools.islice(_zip(shapes, colours), movers + distractors)
    items = _draw_items(rng, world, list(pairs))
    if motion is not None:
        items = [item._replace(motion=motion) for item in items]
    still = (item._replace(motion=None) for item in items[movers:])
    return Scene(tuple(items[:movers]), tuple(still))


def draw_absent(
    rng: np.random.Generator, world: World, present: set[tuple[int, int]], count: int
) -> list[Item]:
    """Draws ``count`` moving objects whose (shape, colour) is not among ``present``."""
    absent = (pair for pair in _zip(*_draw_pairs(rng)) if pair not in present)
    return _draw_items(rng, world, list(itertools.islice(absent, count)))


def _draw_pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All (shape, colour) pairs in random order, as two index arrays."""
    return np.divmod(rng.permutation(len(SHAPES) * len(COLOURS)), len(COLOURS))


def _draw_items(rng: np.random.Generator, world: World, pairs: list[tuple[int, int]]) -> list[Item]:
    """Moving objects of the given (shape, colour) pairs."""
    count = len(pairs)
    lengths = rng.integers(-(-world.frames // 2), world.frames, size=count)
    starts = rng.integers(0, world.frames - lengths + 1)
    columns = (
        *rng.integers(_choices(world.size, count)),
        starts,
        starts + lengths,
        rng.uniform(0.8, 1.25, size=count),
        rng.random(count),
    )
    return [Item(*pair, *row) for pair, row in zip(pairs, _zip(*columns), strict=True)]


@functools.cache
def _choices(size: int, count: int) -> np.ndarray:
    """How many sizes, turns, rows, columns and motions there are, for each of ``count`` objects."""
    return np.repeat([[len(SIZES)], [TURNS], [size], [size], [len(MOTIONS)]], count, axis=1)


def _zip(*columns: np.ndarray) -> Iterator[tuple]:
    return zip(*(column.tolist() for column in columns), strict=True)


def centres(item: Item, world: World) -> Int[np.ndarray, "T 2"]:
    """The object's centre in every frame as (row, column) in whole pixels, from 0 to size - 1."""
    offset = _offset(item, _seconds_in_motion(item.start, item.stop, world))
    place = np.array([item.row, item.col])
    return (place + np.rint(world.size * offset).astype(int)) % world.size


@functools.cache
def _seconds_in_motion(start: int, stop: int, world: World) -> np.ndarray:
    """How long an object has moved by each frame, [T]."""
    return np.clip(np.arange(world.frames) - start, 0, stop - start) / world.fps


def active(item: Item, world: World) -> Bool[np.ndarray, "T"]:
    """The frames in which the object moves, so that a moment later it will be elsewhere."""
    frames = np.arange(world.frames)
    return (frames >= item.start) & (frames < item.stop) & (item.motion is not None)


def _offset(item: Item, seconds: np.ndarray) -> np.ndarray:
    """How far the object has come from where it rested, [T, 2], in widths of the picture."""
    offset = np.zeros((len(seconds), 2))
    rows, cols = offset.T
    way = item.pace * _SPEED * seconds
    match None if item.motion is None else MOTIONS[item.motion]:
        case "left":
            cols -= way
        case "right":
            cols += way
        case "up":
            rows -= way
        case "down":
            rows += way
        case "clockwise" | "counterclockwise" as sense:
            # Rows grow downwards, so a growing angle is seen turning clockwise.
            turns = seconds / _CIRCLE_SECONDS * (1 if sense == "clockwise" else -1)
            begin, angle = 2 * np.pi * item.phase, 2 * np.pi * (item.phase + turns)
            radius = item.pace * _CIRCLE_RADIUS
            rows += radius * (np.sin(angle) - np.sin(begin))
            cols += radius * (np.cos(angle) - np.cos(begin))
        case "shaking":
            reach = item.pace * _SHAKE_REACH * (1 if item.phase < 0.5 else -1)
            cols += reach * np.sin(2 * np.pi * seconds / _SHAKE_SECONDS)
        case "bouncing":
            rows -= item.pace * _HOP_HEIGHT * np.abs(np.sin(np.pi * seconds / _HOP_SECONDS))
    return offset
