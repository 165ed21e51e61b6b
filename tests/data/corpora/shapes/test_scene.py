"""Scenes: who is there, where, and how it moves."""

import numpy as np
import pytest
from scipy.stats import chisquare

from fgmm.data.corpora.shapes.scene import (
    COLOURS,
    MOTIONS,
    SHAPES,
    Item,
    World,
    active,
    centres,
    draw_absent,
    draw_scene,
    generator,
)

WORLD = World(size=64, frames=8, fps=4.0, sample_rate=8000)


def _item(motion: str | None, phase: float = 0.1) -> Item:
    index = None if motion is None else MOTIONS.index(motion)
    place = {"row": 5, "col": 60, "motion": index, "start": 1, "stop": 7}
    return Item(shape=0, colour=0, size=0, turn=0, **place, pace=1.0, phase=phase)


def _steps(item: Item) -> np.ndarray:
    """Displacement from frame to frame in pixels, [T - 1, 2], undoing the wrap."""
    return (np.diff(centres(item, WORLD), axis=0) + 32) % 64 - 32


def test_objects_differ_in_shape_and_colour_and_move_for_half_the_clip_or_more():
    for index in range(300):
        scene = draw_scene(generator(0, index), WORLD, movers=3, distractors=4)
        assert len(scene.pairs) == 7
        assert len(scene.movers) == 3
        for item in scene.movers:
            assert 4 <= item.stop - item.start < 8
            assert 0 <= item.start < item.stop <= 8
            assert 0 <= item.shape < len(SHAPES)
            assert 0 <= item.colour < len(COLOURS)
        assert all(not active(item, WORLD).any() for item in scene.distractors)


def test_common_motion_and_common_shape():
    rng = generator(1)
    scene = draw_scene(rng, WORLD, movers=3, distractors=2, motion=6)
    assert [item.motion for item in scene.movers] == [6, 6, 6]
    assert [item.motion for item in scene.distractors] == [None, None]
    scene = draw_scene(rng, WORLD, movers=8, distractors=2, shape=4)
    assert {item.shape for item in scene.movers} == {4}
    assert len(scene.pairs) == 10
    others = [draw_scene(rng, WORLD, 2, 1, shape=4).distractors[0].shape for _ in range(200)]
    assert set(others) == set(range(len(SHAPES)))


def test_absent_objects_are_absent():
    rng = generator(2)
    scene = draw_scene(rng, WORLD, movers=8, distractors=8)
    absent = draw_absent(rng, WORLD, scene.pairs, count=32)
    assert len({item.pair for item in absent}) == 32
    assert not scene.pairs & {item.pair for item in absent}


def test_straight_motions_go_where_they_say():
    signs = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
    for motion, sign in signs.items():
        moved = _steps(_item(motion))[1:7]
        np.testing.assert_array_equal(np.sign(moved), np.tile(sign, (6, 1)))


@pytest.mark.parametrize(("motion", "sense"), [("clockwise", 1), ("counterclockwise", -1)])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7])
def test_circling_turns_one_way(motion, sense, phase):
    moved = _steps(_item(motion, phase))[1:7]
    rows, cols = moved.T
    # Seen on a screen (rows grow downwards), right then down is clockwise: the product is positive.
    assert (sense * (cols[:-1] * rows[1:] - rows[:-1] * cols[1:]) > 0).all()


def test_shaking_stays_level_and_bouncing_never_sinks_below_its_rest():
    shaking, bouncing = (centres(_item(motion), WORLD) for motion in ("shaking", "bouncing"))
    assert set(shaking[:, 0]) == {5}
    away = (shaking[:, 1] - 60 + 32) % 64 - 32
    assert away.min() < -4
    assert away.max() > 4
    assert set(bouncing[:, 1]) == {60}
    height = -((bouncing[:, 0] - 5 + 32) % 64 - 32)
    assert height.min() == 0
    assert height.max() > 6
    assert (np.diff(height) < 0).any()


@pytest.mark.parametrize("motion", MOTIONS)
def test_objects_move_while_active_and_rest_otherwise(motion):
    item = _item(motion)
    moved = _steps(item).any(axis=1)
    during = active(item, WORLD)[:-1]
    assert not moved[~during].any()
    # A hop may be caught at equal heights on its way up and down.
    assert moved[during].mean() > (0.6 if motion == "bouncing" else 0.99)


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
def test_places_are_uniform_in_every_frame_whatever_the_motion(motion):
    places = np.stack(
        [
            centres(draw_scene(generator(3, index), WORLD, 1, 0, motion=motion).movers[0], WORLD)
            for index in range(1500)
        ]
    )
    for frame in (0, 4, 7):
        rows, cols = places[:, frame].T // 16
        counts = np.bincount(rows * 4 + cols, minlength=16)
        assert chisquare(counts).pvalue > 1e-5
