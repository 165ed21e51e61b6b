import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.temporal import shifted, temporal_shift


@pytest.mark.parametrize(
    ("frames", "kernel", "stride"), [(1, 3, 2), (5, 3, 1), (6, 3, 2), (4, 2, 1)]
)
def test_a_product_over_shifted_frames_is_a_convolution(frames, kernel, stride):
    x = np.asarray(jax.random.normal(jax.random.key(frames), (2, frames, 1, 2, 3)))
    weights = np.asarray(jax.random.normal(jax.random.key(7), (kernel, 3, 4)))
    low = (kernel - 1) // 2
    around = np.pad(x, ((0, 0), (low, kernel - 1 - low), (0, 0), (0, 0), (0, 0)))
    expected = np.stack(
        [
            sum(around[:, centre + i] @ weights[i] for i in range(kernel))
            for centre in range(0, frames, stride)
        ],
        axis=1,
    )
    result = shifted(jnp.asarray(x), kernel, stride) @ weights.reshape(-1, 4)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_padding_that_repeats_the_edge():
    x = jnp.arange(3.0).reshape(1, 3, 1)
    np.testing.assert_array_equal(
        shifted(x, 3, padding="edge")[0], [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    )
    np.testing.assert_array_equal(shifted(x, 3)[0], [[0, 0, 1], [0, 1, 2], [1, 2, 0]])
    np.testing.assert_array_equal(shifted(x[:, :1], 3, 2, padding="edge")[0], [[0, 0, 0]])


def test_channels_move_in_time():
    # Frame t has the values 10 t + channel + 1.
    x = 10.0 * jnp.arange(3)[:, None] + jnp.arange(1, 9)[None]
    moved = temporal_shift(x[None, :, None, None, :], share=4)[0, :, 0, 0]
    np.testing.assert_array_equal(moved[:, 0], [11, 21, 0])
    np.testing.assert_array_equal(moved[:, 1], [12, 22, 0])
    np.testing.assert_array_equal(moved[:, 2], [0, 3, 13])
    np.testing.assert_array_equal(moved[:, 3], [0, 4, 14])
    np.testing.assert_array_equal(moved[:, 4:], x[:, 4:])
    edge = temporal_shift(x[None, :, None, None, :], share=4, padding="edge")[0, :, 0, 0]
    np.testing.assert_array_equal(edge[:, 0], [11, 21, 21])
    np.testing.assert_array_equal(edge[:, 3], [4, 4, 14])


@pytest.mark.parametrize("kernel", [(2, 4, 4), (3, 3, 3)])
def test_a_spatial_convolution_over_shifted_frames_is_one_over_both(kernel):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 7, 3))
    weights = jax.random.normal(jax.random.key(1), (*kernel, 3, 4))
    around = [((size - 1) // 2, size // 2) for size in kernel]
    expected = jax.lax.conv_general_dilated(
        x, weights, (1, 1, 1), around, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    joined = weights.transpose(1, 2, 0, 3, 4).reshape(*kernel[1:], -1, 4)
    result = nn.Conv(4, kernel[1:], padding=around[1:], use_bias=False).apply(
        {"params": {"kernel": joined}}, shifted(x, kernel[0])
    )
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
