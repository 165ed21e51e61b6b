import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.losses import (
    CLIP_INITIAL_LOGIT_SCALE,
    CLIP_INITIAL_TEMPERATURE,
    SIGLIP_INITIAL_TEMPERATURE,
    temperature_from_logit_scale,
)
from fgmm.losses.temperature import clipped


def test_logit_scale_is_the_logarithm_of_the_inverse():
    temperature = temperature_from_logit_scale(CLIP_INITIAL_LOGIT_SCALE)
    np.testing.assert_allclose(temperature, CLIP_INITIAL_TEMPERATURE, rtol=1e-6)
    temperature = temperature_from_logit_scale(jnp.float32(math.log(10)))
    np.testing.assert_allclose(temperature, SIGLIP_INITIAL_TEMPERATURE, rtol=1e-6)
    np.testing.assert_allclose(temperature_from_logit_scale(9.0), 0.01, rtol=1e-6)
    np.testing.assert_allclose(temperature_from_logit_scale(9.0, maximum=50.0), 0.02, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "slope", "gradient"),
    [(0.5, 2, 2), (0.5, -2, -2), (-1, 2, 0), (-1, -2, -2), (3, 2, 2), (3, -2, 0), (1, -2, 0)],
)
def test_a_clipped_parameter_can_come_back_but_not_go_further(value, slope, gradient):
    """Within [0, 1]; descent goes against the slope."""
    found = jax.grad(lambda v: slope * clipped(v, 0.0, 1.0))(jnp.float32(value))
    assert found == gradient
    assert clipped(jnp.float32(value), 0.0, 1.0) == np.clip(value, 0, 1)
