import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.video.vivit import Encoder, tubelets
from tests.models.small import variables_of

FRAMES = jax.random.normal(jax.random.key(0), (3, 4, 16, 24, 3))
MASK = jnp.array([True, True, False])
SIZES = {"width": 16, "depth": 2, "heads": 2, "patch": 8}


VARIABLES = variables_of(Encoder(**SIZES), FRAMES, MASK)


@functools.cache
def calm():
    return run(train=False)


def run(train, frames=FRAMES, **options):
    encoder = Encoder(**SIZES, **options)
    rngs = {"dropout": jax.random.key(2)}
    return jax.jit(lambda frames: encoder.apply(VARIABLES, frames, MASK, train, rngs=rngs))(frames)


def test_a_token_holds_the_pixels_of_its_box():
    x = tubelets(FRAMES, 2, 8)
    assert x.shape == (3, 2, 2, 3, 2 * 8 * 8 * 3)
    np.testing.assert_array_equal(x[1, 1, 0, 2], FRAMES[1, 2:4, :8, 16:24].reshape(-1))


@pytest.mark.parametrize("size", [(3, 16, 24), (4, 17, 24), (4, 16, 4)])
def test_sizes_that_no_boxes_fill(size):
    encoder = Encoder(**SIZES)
    message = "frames x height x width = {} x {} x {} must be multiples of tubelet=2, patch=8"
    with pytest.raises(ValueError, match=message.format(*size)):
        encoder.init(jax.random.key(0), jnp.zeros((1, *size, 3)), jnp.ones(1, bool), False)


def test_dropped_tokens_are_masked_in_all_frames_alike():
    whole = run(train=False, drop_token=0.5)
    assert whole.mask[:2].all()
    assert not whole.mask[2].any()
    part = run(train=True, drop_token=0.5)
    assert part.grid == whole.grid == (2, 2, 3)
    mask = np.asarray(part.mask).reshape(3, 2, 6)
    np.testing.assert_array_equal(mask[:, 0], mask[:, 1])
    np.testing.assert_array_equal(mask.sum(axis=(1, 2)), [6, 6, 0])
    assert (np.asarray(part.local)[~np.asarray(part.mask)][:6] == 0).all()
    kept = np.asarray(part.mask)
    assert np.abs(part.local - whole.local)[kept].max() > 1e-3


def test_nothing_is_dropped_where_nothing_is_said():
    np.testing.assert_allclose(run(train=True).local, calm().local, rtol=1e-5)


@pytest.mark.parametrize("option", ["dropout", "stochastic_depth"])
def test_regularisation_is_for_training(option):
    np.testing.assert_array_equal(run(train=False, **{option: 0.5}).local, calm().local)
    assert np.abs(run(train=True, **{option: 0.5}).local - calm().local).max() > 1e-2


def test_every_cell_sees_every_other():
    changed = run(train=False, frames=FRAMES.at[0, 0, 0, 0].add(3.0))
    moved = np.abs(calm().local - changed.local).max(axis=-1)
    assert (moved[0] > 1e-5).all()
    np.testing.assert_array_equal(moved[1:], 0.0)
