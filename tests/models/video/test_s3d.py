import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from fgmm.models.video.s3d import Encoder, SelfGating, pool, space_to_depth
from tests.models.small import abstract, build, variables_of

MASK = jnp.ones(1, bool)


def shapes(encoder, frames):
    grid, _, variables = abstract(encoder, jnp.zeros(frames), MASK)
    return grid, variables


def test_blocks_of_pixels_become_channels_in_the_order_t_h_w_colour():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 2, 3))
    y = space_to_depth(x)
    assert y.shape == (1, 2, 3, 1, 24)
    for t, h, w, colour in np.ndindex(2, 2, 2, 3):
        channel = ((t * 2 + h) * 2 + w) * 3 + colour
        np.testing.assert_array_equal(y[..., channel], x[:, t::2, h::2, w::2, colour])


@pytest.mark.parametrize("size", [(5, 32, 32), (4, 33, 32), (4, 32, 31)])
def test_odd_sizes(size):
    message = re.escape("frames x height x width = {} x {} x {} must all be even".format(*size))
    with pytest.raises(ValueError, match=message):
        shapes(Encoder(), (1, *size, 3))
    grid, _ = shapes(Encoder(stem="7x7"), (1, *size, 3))
    assert grid[1:] == (2 if size[1] == 33 else 1, 1)


@pytest.mark.parametrize("stem", ["space_to_depth", "7x7"])
@pytest.mark.parametrize("size", [(2, 2, 2), (1, 16, 16), (4, 30, 30)])
def test_a_clip_shorter_than_a_stride_gives_one_cell(stem, size):
    grid, _ = shapes(Encoder(stem=stem), (1, *size, 3))
    assert grid == (1, 1, 1)


@pytest.mark.parametrize(
    "frames", [8, *(pytest.param(frames, marks=pytest.mark.long) for frames in (16, 32))]
)
def test_both_stems_have_the_same_feature_map(frames):
    grids = {
        shapes(Encoder(stem=stem), (1, frames, 64, 96, 3))[0] for stem in ("space_to_depth", "7x7")
    }
    assert grids == {(frames // 8, 2, 3)}


def test_pools_drop_nothing_at_the_end():
    """Ceil mode: a last window that is not full counts, and padding starts low."""
    x = jnp.arange(1.0, 8.0).reshape(1, 7, 1, 1, 1)
    assert pool(x, (2, 2, 2), (2, 2, 2)).ravel().tolist() == [2, 4, 6, 7]
    assert pool(x, (3, 3, 3), (2, 2, 2)).ravel().tolist() == [3, 5, 7, 7]
    assert pool(x, (3, 3, 3), (1, 1, 1)).ravel().tolist() == [2, 3, 4, 5, 6, 7, 7]
    assert pool(x, (1, 3, 3), (1, 2, 2)).ravel().tolist() == list(range(1, 8))


def test_a_gate_is_one_number_for_each_channel_of_a_clip():
    x = jax.random.normal(jax.random.key(0), (2, 2, 3, 3, 4))
    gate = SelfGating("float32")
    variables = gate.init(jax.random.key(1), x)
    fc = variables["params"]["fc"]
    mean = np.asarray(x).mean(axis=(1, 2, 3))
    weights = 1 / (1 + np.exp(-(mean @ np.asarray(fc["kernel"]) + np.asarray(fc["bias"]))))
    expected = np.asarray(x) * weights[:, None, None, None]
    np.testing.assert_allclose(gate.apply(variables, x), expected, rtol=1e-4, atol=1e-6)


def test_options_change_what_they_say():
    def names(**options):
        encoder = Encoder(width_multiplier=0.125, **options)
        return set(flatten_dict(shapes(encoder, (1, 4, 32, 32, 3))[1]["params"], sep="/"))

    whole = names()
    assert "mixed_5c/conv_b1_b/conv2/kernel" in whole
    assert not any("gating" in name for name in names(gated=False))
    assert any("gating" in name for name in whole)
    shorter = names(final_endpoint="mixed_3b")
    assert shorter == {name for name in whole if not re.match("mixed_(3c|4|5)", name)}
    grouped = names(norm="group")
    assert {name.replace("GroupNorm", "BatchNorm") for name in grouped} == whole != grouped


def test_group_normalisation_sees_one_clip():
    encoder = build("video", "s3d", norm="group")
    x, mask = jax.random.normal(jax.random.key(0), (2, 2, 16, 16, 3)), jnp.ones(2, bool)
    variables = variables_of(encoder, x, mask)
    run = jax.jit(lambda x: encoder.apply(variables, x, mask, True).local)
    np.testing.assert_allclose(run(x)[:1], run(x.at[1].set(0.0))[:1], rtol=1e-4, atol=1e-6)
    assert set(variables) == {"params"}
