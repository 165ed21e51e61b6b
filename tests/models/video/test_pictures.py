"""Coarse features of frames over time, by their mean or by a transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.video.frame_transformer import FrameTransformer
from tests.models import small

OPTIONS = {"width": 16, "depth": 1, "heads": 2, "hidden": 32, "patch": 8, "positions": (1, 1)}


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_transformer_over_frames_starts_as_their_mean(name):
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.standard_normal((2, 3, 8, 8, 3)), jnp.float32)
    mask = jnp.ones(2, bool)
    with_time = small.build("video", name, **OPTIONS, temporal_depth=1)
    variables = small.variables_of(with_time, frames, mask)
    apply = jax.jit(lambda v, x: with_time.apply(v, x, mask, False))
    knowing = apply(variables, frames)
    temporal = variables["params"]["temporal"]
    # An encoder begins with these zeros; see below.
    temporal["norm"] = jax.tree.map(np.zeros_like, temporal["norm"])
    start = apply(variables, frames)
    del variables["params"]["temporal"]
    mean = jax.jit(small.build("video", name, **OPTIONS).apply, static_argnums=3)
    mean = mean(variables, frames, mask, False)
    np.testing.assert_allclose(start.coarse, mean.coarse, atol=1e-6)
    assert np.abs(knowing.coarse - mean.coarse).max() > 0.01
    for found in (start, knowing):
        np.testing.assert_array_equal(found.local, mean.local)


def test_frames_know_of_each_other_and_of_their_order():
    x, other = jax.random.normal(jax.random.key(0), (2, 1, 5, 8))
    form = {"hidden": 16, "activation": "gelu", "epsilon": 1e-5, "dtype": "float32"}
    over = FrameTransformer(depth=1, heads=2, **form)
    y, variables = jax.jit(lambda x: over.init_with_output(jax.random.key(0), x))(x)
    np.testing.assert_array_equal(y, x)
    variables["params"]["norm"]["scale"] += 1.0
    apply = jax.jit(over.apply)
    y, backward = apply(variables, x), apply(variables, x[:, ::-1])[:, ::-1]
    assert np.abs(y - backward).max() > 0.01
    changed = apply(variables, x.at[:, 0].set(other[:, 0]))
    assert np.abs(changed - y)[0, -1].max() > 0.01


def test_more_frames_than_positions_are_refused():
    encoder = small.build("video", "clip", **OPTIONS, temporal_depth=1)
    with pytest.raises(ValueError, match=r"^temporal_depth=1 has positions for 77 frames, not 78"):
        small.abstract(encoder, jnp.zeros((1, 78, 8, 8, 3)), jnp.ones(1, bool))
