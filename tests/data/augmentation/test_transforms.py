import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.augmentation.spectrogram import log_mel, mel_filters
from fgmm.data.augmentation.transforms import Transforms, cropped
from tests.data import log_mel_reference


def test_the_whole_picture_is_a_crop():
    video = jax.random.randint(jax.random.key(0), (2, 1, 6, 8, 3), 0, 256).astype(jnp.uint8)
    same = cropped(video, jnp.zeros((2, 2)), jnp.ones((2, 2)))
    np.testing.assert_allclose(same, video, atol=1e-3)


def test_a_crop_of_half_the_size_is_that_half_enlarged():
    ramp = jnp.broadcast_to(jnp.arange(8.0) * 10, (1, 1, 8, 8))[..., None].repeat(3, -1)
    right = cropped(ramp.astype(jnp.uint8), jnp.array([[0.0, 0.5]]), jnp.array([[1.0, 0.5]]))
    np.testing.assert_allclose(right[0, 0, 0, :, 0], 35 + 2.5 + np.minimum(np.arange(8) * 5, 32.5))


def test_augmentation_needs_draws_and_is_a_function_of_them():
    transforms = Transforms(sample_rate=8000, flip=True, crop_area=0.5)
    video = jax.random.randint(jax.random.key(0), (4, 2, 8, 8, 3), 0, 256).astype(jnp.uint8)
    batch = {"video": video, "video_mask": jnp.ones(4, bool)}
    plain = transforms(batch)["video"]
    np.testing.assert_allclose(plain, (np.asarray(video, np.float32) - 127.5) / 64, atol=1e-6)
    first, again, other = (
        transforms(batch, transforms.draw(jax.random.key(seed), 4))["video"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - plain).max() > 0.1


def test_every_colour_has_its_mean_and_spread():
    transforms = Transforms(
        sample_rate=8000, pixel_mean=(120.0, 110.0, 100.0), pixel_spread=(60.0, 50.0, 40.0)
    )
    video = jnp.full((1, 1, 2, 2, 3), 200, jnp.uint8)
    found = transforms({"video": video})["video"]
    np.testing.assert_allclose(found[0, 0, 0, 0], [80 / 60, 90 / 50, 100 / 40], rtol=1e-6)


def test_a_part_of_the_draws_does_what_they_do_in_the_whole():
    transforms = Transforms(sample_rate=8000, flip=True, crop_area=0.5)
    video = jax.random.randint(jax.random.key(0), (6, 2, 8, 8, 3), 0, 256).astype(jnp.uint8)
    draws = transforms.draw(jax.random.key(1), 6)
    whole = transforms({"video": video}, draws)["video"]
    part = transforms({"video": video[1::2]}, jax.tree.map(lambda x: x[1::2], draws))["video"]
    np.testing.assert_allclose(part, whole[1::2], atol=1e-6)


def test_flips_mirror_about_half_of_the_clips():
    video = jnp.arange(64 * 4).reshape(64, 1, 1, 4, 1).repeat(3, -1).astype(jnp.uint8)
    transforms = Transforms(sample_rate=8000, flip=True)
    batch = {"video": video}
    flipped = transforms(batch, transforms.draw(jax.random.key(0), 64))["video"]
    plain = transforms(batch)["video"]
    mirrored = (flipped == plain[..., ::-1, :]).all(axis=(1, 2, 3, 4))
    kept = (flipped == plain).all(axis=(1, 2, 3, 4))
    assert (mirrored ^ kept).all()
    assert 16 < mirrored.sum() < 48


def test_log_mel_of_a_tone_peaks_in_its_band():
    rate, window, bands = 8000, 256, 40
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    spectrogram = log_mel(jnp.asarray(tone)[None], rate=rate, window=window, hop=128, bands=bands)
    assert spectrogram.shape == (1, 1 + (rate - window) // 128, bands)
    filters = mel_filters(bands, window, rate)
    expected = filters[round(1000 * window / rate)].argmax()
    np.testing.assert_array_equal(spectrogram[0].argmax(axis=-1), expected)


@pytest.mark.parametrize("name", log_mel_reference.CASES)
def test_log_mel_is_that_of_librosa(name):
    rate, window, hop, bands = log_mel_reference.CASES[name]
    with np.load(log_mel_reference.PATH) as reference:
        power = reference[name]
    assert power.max() > 500
    assert power.min() < 1e-3
    sound = jnp.asarray(log_mel_reference.sound(rate))[None]
    result = log_mel(sound, rate=rate, window=window, hop=hop, bands=bands)[0]
    np.testing.assert_allclose(result, np.log(power + 1e-4), atol=4e-4, rtol=0)


def test_impossible_crops_are_refused():
    with pytest.raises(ValueError, match=r"crop_area=0\.0 must be above 0 and at most 1"):
        Transforms(sample_rate=8000, crop_area=0.0)


def test_a_window_shorter_than_two_samples_is_refused():
    with pytest.raises(ConfigError, match=r"least 1: 0\.0001 s and 0\.01 s at 8000 Hz"):
        Transforms(sample_rate=8000, mel_window=0.0001, mel_hop=0.01)
