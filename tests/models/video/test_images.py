"""Images as clips: a network's output for one frame is that for a clip which shows it for ever."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small import build, variables_of

ENCODERS = ("s3d", "tsm_resnet50", "r2plus1d18", "vivit")
IMAGES = jax.random.normal(jax.random.key(0), (2, 1, 16, 16, 3))
MASK = jnp.ones(2, bool)


def make(name, **options):
    """``features(frames)`` of an encoder as maps [B,T,H,W,E]."""
    encoder = build("video", name, **options)
    variables = variables_of(encoder, IMAGES, MASK)

    @jax.jit
    def features(frames):
        tokens = encoder.apply(variables, frames, MASK, False)
        return tokens.local.reshape(2, *tokens.grid, -1)

    return features


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_is_a_static_clip_without_ends(name):
    options = {} if name == "vivit" else {"temporal_padding": "edge"}
    features = make(name, **options)
    image = features(IMAGES)
    clip = features(jnp.repeat(IMAGES, 8, axis=1))
    assert image.shape[1] == 1 < clip.shape[1]
    np.testing.assert_allclose(clip, np.broadcast_to(image, clip.shape), rtol=1e-3, atol=1e-4)
    moving = features(IMAGES * jnp.linspace(0, 1, 8)[None, :, None, None, None])
    assert np.abs(moving - image).max() > 1e-2


@pytest.mark.parametrize("name", ["tsm_resnet50", "r2plus1d18"])
def test_with_zeros_beyond_its_ends_it_is_so_in_the_middle(name):
    features = make(name)
    image = features(IMAGES)[:, 0]
    clip = features(jnp.repeat(IMAGES, 24, axis=1))
    middle = clip.shape[1] // 2
    np.testing.assert_allclose(clip[:, middle], image, rtol=1e-3, atol=1e-4)
    assert np.abs(clip[:, 0] - image).max() > 1e-3


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_may_be_inflated(name):
    clip = make(name)(jnp.repeat(IMAGES, 4, axis=1))
    inflated = make(name, image_frames=4)(IMAGES)
    assert inflated.shape[1] > 1
    np.testing.assert_allclose(inflated, clip, rtol=1e-4, atol=1e-5)
