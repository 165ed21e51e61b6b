"""Convolutions with a group a channel, in the form for CPUs against that of XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.video.efficientnet_lite0 import depthwise_conv
from tests.models import small

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(("size", "stride"), [((7, 5), 1), ((8, 5), 2), ((3, 1), 2)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_convolutions_are_those_of_groups(kernel, size, stride):
    rng = np.random.default_rng(0)
    x = jnp.float32(rng.normal(size=(2, *size, 4)))
    weights = jnp.float32(rng.normal(size=(kernel, kernel, 1, 4)))

    def grouped(x, weights):
        return jax.lax.conv_general_dilated(
            *(x, weights, (stride, stride), "SAME"),
            dimension_numbers=CHANNELS_LAST,
            feature_group_count=4,
        )

    def found(x, weights):
        return depthwise_conv(x, weights, (stride, stride), "SAME")

    wanted, of_groups = jax.vjp(grouped, x, weights)
    actual, of_shifts = jax.vjp(found, x, weights)
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    cotangent = jnp.float32(rng.normal(size=wanted.shape))
    for given, expected in zip(of_shifts(cotangent), of_groups(cotangent), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)


def test_the_output_may_be_normalised():
    inputs = jnp.ones((1, 1, 8, 8, 3)), jnp.ones(1, bool)
    shapes = {
        norm: small.abstract(small.build("video", "efficientnet_lite0", norm=norm), *inputs)[2]
        for norm in ("none", "layer")
    }
    added = shapes["layer"]["params"].pop("norm")
    assert shapes["layer"] == shapes["none"]
    assert {name: leaf.shape for name, leaf in added.items()} == {
        "scale": (1280,),
        "bias": (1280,),
    }
