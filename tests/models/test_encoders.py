"""What every encoder promises, whatever its family: each is found by name in its room."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm import components

INPUTS = {
    "video": lambda key: jax.random.normal(key, (3, 4, 32, 32, 3)),
    "audio": lambda key: jax.random.normal(key, (3, 40, 16)),
}
ENCODERS = [(room, name) for room in INPUTS for name in components.names(f"models.{room}")]


def make(room, name):
    encoder = components.build(f"models.{room}", {"name": name}, key=f"model.{room}")
    inputs = INPUTS[room](jax.random.key(0))
    variables = encoder.init(jax.random.key(1), inputs, jnp.ones(3, bool), False)
    return encoder, variables, inputs


@pytest.mark.parametrize(("room", "name"), ENCODERS)
def test_the_grid_spans_the_local_features(room, name):
    encoder, variables, inputs = make(room, name)
    tokens = encoder.apply(variables, inputs, jnp.ones(3, bool), False)
    assert len(tokens.grid) == {"video": 3, "audio": 2}[room]
    assert tokens.local.shape[:2] == (3, np.prod(tokens.grid)) == tokens.mask.shape
    assert tokens.mask.all()


@pytest.mark.parametrize(("room", "name"), ENCODERS)
def test_a_masked_clip_changes_no_other(room, name):
    encoder, variables, inputs = make(room, name)
    mask = jnp.array([True, True, False])
    results = []
    for garbage in (0.0, 100.0):
        given = inputs.at[2].set(garbage)
        tokens, updates = encoder.apply(variables, given, mask, True, mutable=["batch_stats"])
        results.append((tokens.local[:2], updates))
        np.testing.assert_array_equal(tokens.mask.all(axis=1), mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


@pytest.mark.parametrize(("room", "name"), ENCODERS)
def test_a_batch_without_a_valid_clip_is_finite(room, name):
    encoder, variables, inputs = make(room, name)
    out = encoder.apply(variables, inputs, jnp.zeros(3, bool), True, mutable=["batch_stats"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))


@pytest.mark.parametrize("name", components.names("models.video"))
def test_an_image_is_a_clip_of_one_frame(name):
    encoder, variables, inputs = make("video", name)
    tokens = encoder.apply(variables, inputs[:, :1], jnp.ones(3, bool), False)
    assert tokens.grid[0] == 1
    assert np.isfinite(tokens.local).all()
