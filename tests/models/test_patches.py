import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.patches import (
    draw_kept,
    kept_only,
    resized_positions,
    restored,
    sequence_positions,
    sincos_positions,
)


def test_positions_differ_and_depend_on_one_axis_each():
    positions = sincos_positions((5, 7), 16)
    assert positions.shape == (5, 7, 16)
    rows = positions.reshape(35, 16)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1) + 9 * np.eye(35)
    assert distances.min() > 0.1
    np.testing.assert_array_equal(positions[:, 0, :8], positions[:, 6, :8])
    np.testing.assert_array_equal(positions[0, :, 8:], positions[4, :, 8:])
    np.testing.assert_array_equal(sincos_positions((2, 3), 16), positions[:2, :3])
    with pytest.raises(ValueError, match="width=6 must be a multiple of 4"):
        sincos_positions((2, 2), 6)


@pytest.mark.parametrize(("cells", "dropped"), [(1, 0.9), (7, 0.5), (6, 0.0)])
def test_what_is_kept_comes_back_to_its_place(cells, dropped):
    x = jax.random.normal(jax.random.key(0), (3, 2, cells, 4))
    kept = draw_kept(jax.random.key(1), 3, cells, dropped)
    assert kept.shape == (3, max(1, round(cells * (1 - dropped))))
    assert (np.diff(kept, axis=1) > 0).all()
    whole, mask = restored(kept_only(x, kept), kept, cells)
    np.testing.assert_array_equal(mask.sum(axis=1), kept.shape[1])
    np.testing.assert_array_equal(whole, jnp.where(mask[:, None, :, None], x, 0.0))


def test_clips_keep_different_cells():
    kept = np.asarray(draw_kept(jax.random.key(0), 50, 10, 0.5))
    assert len({tuple(row) for row in kept.tolist()}) > 20
    counts = np.bincount(kept.ravel(), minlength=10)
    assert counts.min() > 10


def test_learned_positions_are_interpolated():
    table = jax.random.normal(jax.random.key(0), (4, 4, 3))
    assert resized_positions(table, (4, 4)) is table
    # What PyTorch's bicubic makes of a slope, away from the edges: it overshoots a little.
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, :, None], (8, 8, 1))
    twice = resized_positions(ramp, (8, 16))[3, :, 0]
    np.testing.assert_allclose(twice[4:8], [1.703125, 2.296875, 2.703125, 3.296875], atol=1e-5)
    np.testing.assert_allclose(resized_positions(jnp.ones((2, 5, 1)), (7, 3)), 1, rtol=1e-5)
    # Axes one after another, and a kernel that covers what falls on a point.
    cube = jnp.broadcast_to(jnp.arange(16.0)[:, None, None, None], (16, 2, 2, 1))
    halved = resized_positions(cube, (8, 3, 2), antialias=True)
    assert halved.shape == (8, 3, 2, 1)
    np.testing.assert_allclose(halved[3:5, 0, 0, 0], [6.5, 8.5], atol=1e-5)


def test_positions_of_a_sequence_have_a_sine_beside_each_cosine():
    found = sequence_positions(5, 6)
    for pair, frequency in enumerate((1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3))):
        angle = np.arange(5) * frequency
        expected = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        np.testing.assert_allclose(found[:, 2 * pair : 2 * pair + 2], expected, atol=1e-6)
