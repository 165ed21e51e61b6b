import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.data.augmentation import colour
from fgmm.data.augmentation.transforms import Transforms

NOTHING = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def drawn(clips=256, seed=0, chance=1.0, grey=0.0, **limits):
    key = jax.random.key(seed)
    return colour.drawn(key, clips, **{**NOTHING, **limits}, chance=chance, grey=grey)


def video(clips=4, low=60, high=200):
    return jax.random.uniform(jax.random.key(9), (clips, 2, 3, 5, 3), minval=low, maxval=high)


def test_no_change_is_none():
    np.testing.assert_allclose(colour.recoloured(video(), **drawn(4)), video(), atol=1e-3)


def test_changes_fill_their_range():
    draws = drawn(4096, brightness=0.125, contrast=0.4)
    for values, middle, limit in ((draws["shift"], 0, 0.125), (draws["contrast"], 1, 0.4)):
        assert np.abs(values - middle).max() <= limit
        assert np.quantile(values, [0.05, 0.95]) == pytest.approx(
            [middle - 0.9 * limit, middle + 0.9 * limit], abs=0.03
        )


def test_brightness_shifts_and_contrast_scales_about_the_mean():
    x, draws = video(), drawn(4)
    brighter = colour.recoloured(x, **draws | {"shift": jnp.full(4, 0.1)})
    np.testing.assert_allclose(brighter, x + 25.5, atol=1e-3)
    flat = colour.recoloured(x, **draws | {"contrast": jnp.full(4, 0.0)})
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(flat, jnp.broadcast_to(mean, x.shape), atol=1e-3)


def test_grey_has_the_luma_of_the_clip():
    x = video(64)
    grey = np.asarray(colour.recoloured(x, **drawn(64, grey=1.0)))
    np.testing.assert_allclose(
        grey, np.asarray(x) @ np.array([0.299, 0.587, 0.114])[:, None] * np.ones(3), atol=0.1
    )
    some = np.asarray(colour.recoloured(x, **drawn(64, grey=0.5)))
    assert 16 < (np.ptp(some, axis=-1).max(axis=(1, 2, 3)) < 0.2).sum() < 48


def test_a_third_of_a_turn_takes_red_towards_the_next_primary():
    red = jnp.zeros((1, 1, 1, 1, 3)).at[..., 0].set(120.0) + 60.0
    angles = []
    for turn in (-1 / 3, 0.0, 1 / 3):
        cosine, sine = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
        matrix = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        palette = jnp.asarray(colour._TO_RGB @ matrix @ colour._FROM_RGB)[None]
        turned = colour.recoloured(red, jnp.zeros(1), jnp.ones(1), palette)[0, 0, 0, 0]
        angles.append(colorsys.rgb_to_hsv(*np.asarray(turned) / 255)[0])
    assert angles[1] in (0.0, pytest.approx(0.0, abs=1e-3), pytest.approx(1.0, abs=1e-3))
    assert sorted(angles[::2]) == pytest.approx([1 / 3, 2 / 3], abs=0.12)


def test_saturation_and_hue_leave_luma_alone():
    x = video(32, low=100, high=150)
    changed = colour.recoloured(x, **drawn(32, saturation=0.4, hue=0.2))
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(changed @ luma, x @ luma, atol=0.05)
    assert np.abs(changed - x).max() > 5


def test_pixels_stay_in_range_and_all_frames_change_alike():
    x = jnp.broadcast_to(video(8, 0, 255)[:, :1], (8, 3, 3, 5, 3))
    changed = np.asarray(
        colour.recoloured(x, **drawn(8, brightness=0.5, contrast=0.9, saturation=0.9, hue=0.5))
    )
    assert changed.min() >= 0
    assert changed.max() <= 255
    np.testing.assert_allclose(changed, changed[:, :1].repeat(3, axis=1), atol=1e-3)


def test_chance_says_how_many_change():
    shift = np.asarray(drawn(1000, brightness=0.5, chance=0.8)["shift"])
    assert 750 < (shift != 0).sum() < 850


def test_transforms_use_it_only_in_training():
    transforms = Transforms(sample_rate=8000, brightness=0.3, hue=0.2, colour_chance=1.0)
    batch = {"video": video().astype(jnp.uint8)}
    plain = transforms(batch)["video"]
    np.testing.assert_allclose(plain, (np.asarray(batch["video"], np.float32) - 127.5) / 64, 1e-6)
    first, again, other = (
        transforms(batch, transforms.draw(jax.random.key(seed), 4))["video"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - plain).max() > 0.1


@pytest.mark.parametrize(
    "wrong", [{"hue": 0.6}, {"brightness": -0.1}, {"grey_chance": 1.5}, {"time_mask": 2.0}]
)
def test_impossible_changes_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be from 0 to "):
        Transforms(sample_rate=8000, **wrong)
