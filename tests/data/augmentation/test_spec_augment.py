import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.data.augmentation import spec_augment
from fgmm.data.augmentation.transforms import Transforms


def test_spans_lie_within_the_axis_and_fill_their_range():
    spans = np.asarray(spec_augment.drawn(jax.random.key(0), 2000, 2, 0.3))
    start, length = spans[..., 0], spans[..., 1]
    assert start.min() >= 0
    assert (start + length).max() <= 1
    assert length.max() <= 0.3
    assert length.mean() == pytest.approx(0.15, abs=0.01)
    assert np.abs(np.corrcoef(length[:, 0], length[:, 1])[0, 1]) < 0.1


@pytest.mark.parametrize("axis", [1, 2])
def test_what_is_hidden_is_a_stretch_of_zeros_along_the_axis(axis):
    x = jnp.ones((1, 10, 20))
    spans = jnp.array([[[0.2, 0.3], [0.9, 0.1]]])
    hidden = np.asarray(spec_augment.masked(x, spans, axis)) == 0
    size = x.shape[axis]
    centre = (np.arange(size) + 0.5) / size
    expected = ((centre > 0.2) & (centre < 0.5)) | (centre > 0.9)
    along = np.moveaxis(hidden[0], axis - 1, 0)
    np.testing.assert_array_equal(along, np.broadcast_to(expected[:, None], along.shape))


def test_transforms_hide_what_was_drawn_in_training_alone():
    transforms = Transforms(sample_rate=8000, time_masks=1, time_mask=0.5, band_masks=2)
    batch = {"audio": jax.random.normal(jax.random.key(0), (8, 8000))}
    plain = transforms(batch)["log_mel"]
    assert not (plain == 0).any()
    draws = transforms.draw(jax.random.key(1), 8)
    expected = spec_augment.masked(plain, draws["times"], 1)
    expected = spec_augment.masked(expected, draws["bands"], 2)
    np.testing.assert_array_equal(transforms(batch, draws)["log_mel"], expected)
    assert 0.05 < (np.asarray(expected) == 0).mean() < 0.8


def test_other_draws_stay_what_they_are():
    crops = Transforms(sample_rate=8000, crop_area=0.5, flip=True)
    more = Transforms(sample_rate=8000, crop_area=0.5, flip=True, hue=0.1, time_masks=2)
    key = jax.random.key(3)
    alone, together = crops.draw(key, 4), more.draw(key, 4)
    for name, array in alone.items():
        np.testing.assert_array_equal(array, together[name])
