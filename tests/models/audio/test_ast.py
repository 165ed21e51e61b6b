import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm.models.audio.ast import Encoder
from tests.models.small import abstract, variables_of

LOG_MEL = jax.random.normal(jax.random.key(0), (2, 45, 40))
SIZES = {"width": 16, "depth": 2, "heads": 2}


def run(train=False, log_mel=LOG_MEL, **options):
    mask = jnp.ones(len(log_mel), bool)
    encoder = Encoder(**SIZES, **options)
    variables = variables_of(encoder, LOG_MEL, mask)
    rngs = {"dropout": jax.random.key(2)}
    return jax.jit(lambda x: encoder.apply(variables, x, mask, train, rngs=rngs))(log_mel)


@pytest.mark.parametrize(
    ("stride", "grid"), [((10, 10), (3, 3)), ((16, 16), (2, 2)), ((29, 24), (2, 2))]
)
def test_patches_may_overlap(stride, grid):
    assert abstract(Encoder(**SIZES, stride=stride), LOG_MEL, jnp.ones(2, bool))[0] == grid


@pytest.mark.parametrize(("steps", "bands"), [(15, 40), (45, 15)])
def test_a_spectrogram_smaller_than_a_patch(steps, bands):
    message = f"steps x bands = {steps} x {bands} must be at least patch=16 x 16"
    with pytest.raises(ValueError, match=message):
        run(log_mel=LOG_MEL[:, :steps, :bands])


def test_the_rest_of_the_last_patch_is_not_seen():
    other = LOG_MEL.at[:, 36:, :].add(9.0)
    np.testing.assert_allclose(run().local, run(log_mel=other).local, rtol=1e-5, atol=1e-6)
    assert np.abs(run().local - run(log_mel=LOG_MEL.at[:, 35:].add(9.0)).local).max() > 1e-3


def test_dropped_patches_are_masked_in_training():
    assert run(drop_token=0.5).mask.all()
    part = run(train=True, drop_token=0.5)
    np.testing.assert_array_equal(part.mask.sum(axis=1), [4, 4])
    assert (np.asarray(part.local)[~np.asarray(part.mask)] == 0).all()
