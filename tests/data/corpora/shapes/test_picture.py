"""Pictures against the ground truth."""

import numpy as np
import pytest

from fgmm.data.corpora.shapes import picture
from fgmm.data.corpora.shapes.scene import (
    COLOURS,
    SHAPES,
    SIZES,
    Item,
    Scene,
    World,
    draw_scene,
    generator,
)

WORLD = World(size=64, frames=8, fps=4.0, sample_rate=8000)


def _without(scene: Scene, item: Item) -> Scene:
    return Scene(
        tuple(other for other in scene.movers if other != item),
        tuple(other for other in scene.distractors if other != item),
    )


def _extent(seen: np.ndarray) -> tuple[int, int]:
    """First and last + 1 of the shortest run on the ring that holds all True, start in [0, n)."""
    places = np.flatnonzero(seen)
    gaps = np.diff(np.append(places, places[0] + len(seen)))
    start = places[(gaps.argmax() + 1) % len(places)]
    return start, start + len(seen) - gaps.max() + 1


def test_boxes_are_tight_around_the_pixels_an_object_changes():
    checked = wrapped = 0
    for index in range(40):
        scene = draw_scene(generator(0, index), WORLD, movers=2, distractors=1)
        for item in scene.movers:
            alone = Scene((item,), ())
            pixels = picture.render(alone, WORLD, (0, index))
            empty = picture.render(Scene((), ()), WORLD, (0, index))
            boxes = picture.boxes(item, WORLD) * WORLD.size
            for box, changed in zip(boxes, (pixels != empty).any(axis=-1), strict=True):
                for axis, (low, high) in enumerate([(box[0], box[2]), (box[1], box[3])]):
                    start, stop = _extent(changed.any(axis=1 - axis))
                    assert abs((start - low + 32) % 64 - 32) <= 1
                    assert abs((stop - high + 32) % 64 - 32) <= 1
                wrapped += bool((box < 0).any() or (box > 64).any())
                checked += 1
    assert checked == 40 * 2 * 8
    assert wrapped > 50


def test_an_object_changes_nothing_outside_its_box():
    for index in range(40):
        scene = draw_scene(generator(1, index), WORLD, movers=3, distractors=1)
        full = picture.render(scene, WORLD, (1, index))
        for item in scene.movers:
            changed = (full != picture.render(_without(scene, item), WORLD, (1, index))).any(-1)
            for frame, box in enumerate(np.rint(picture.boxes(item, WORLD) * 64).astype(int)):
                rows, cols = np.arange(box[0], box[2]) % 64, np.arange(box[1], box[3]) % 64
                changed[frame][np.ix_(rows, cols)] = False
            assert not changed.any()


def test_moving_objects_are_seldom_hidden():
    hidden = 0
    for index in range(150):
        scene = draw_scene(generator(2, index), WORLD, movers=3, distractors=1)
        full = picture.render(scene, WORLD, (2, index))
        for item in scene.movers:
            seen = (full != picture.render(_without(scene, item), WORLD, (2, index))).any((1, 2, 3))
            hidden += (~seen).sum()
    assert hidden / (150 * 3 * 8) < 0.003


def test_only_objects_move_and_the_picture_has_grain_and_clutter():
    frames = picture.render(Scene((), ()), WORLD, (3,)).astype(float)
    assert 5 < (frames[0] - frames[1]).std() / np.sqrt(2) < 15
    still = frames.mean(axis=0)
    assert still.std() > 15
    assert (np.abs(frames - still).max(axis=0) < 32).all()


def test_an_object_shows_its_colour():
    shown = []
    for colour in range(len(COLOURS)):
        item = Item(0, colour, 1, 0, 32, 32, motion=None, start=0, stop=8, pace=1.0, phase=0.0)
        frames = picture.render(Scene((), (item,)), WORLD, (4, colour))
        shown.append(frames[:, 28:37, 28:37].mean(axis=(0, 1, 2)))
    apart = np.linalg.norm(np.array(shown)[:, None] - np.array(shown), axis=-1)
    assert apart[~np.eye(len(COLOURS), dtype=bool)].min() > 80


@pytest.mark.parametrize("size", range(len(SIZES)))
def test_shapes_can_be_told_apart_whatever_their_orientation(size):
    """Nearest neighbour over masks: each orientation finds another of its own shape."""
    masks, labels = [], []
    empty = picture.render(Scene((), ()), WORLD, (5,))[0]
    for shape in range(len(SHAPES)):
        for turn in range(24):
            item = Item(shape, 7, size, turn, 32, 32, None, start=0, stop=8, pace=1.0, phase=0.0)
            drawn = picture.render(Scene((), (item,)), WORLD, (5,))[0]
            masks.append((drawn != empty).any(-1).ravel())
            labels.append(shape)
    masks, labels = np.array(masks, float), np.array(labels)
    distance = ((masks[:, None] - masks) ** 2).sum(-1)
    area = masks.sum(1)
    assert area.max() / area.min() < 1.9
    # Another orientation may give the very same pixels; that is no confusion of shapes.
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(1)] == labels).mean() > 0.95
