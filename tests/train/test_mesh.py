import jax
import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.train import mesh


def test_a_batch_that_does_not_divide_is_named():
    eight = mesh.data_mesh()
    assert eight.size == 8
    mesh.check_batch_size(16, eight)
    for batch_size in (0, -8, 12):
        with pytest.raises(ConfigError, match=f"batch_size={batch_size} must be .* 8 devices"):
            mesh.check_batch_size(batch_size, eight)


def test_micro_batches_are_shared_by_the_devices():
    eight = mesh.data_mesh()
    mesh.check_batch_size(32, eight, 4)
    with pytest.raises(ConfigError, match="grad_cache=3 must divide the 4 clips of each device"):
        mesh.check_batch_size(32, eight, 3)


def test_clips_are_spread_over_the_devices():
    eight = mesh.data_mesh()
    batch = {"x": np.arange(16.0).reshape(16, 1), "mask": np.ones(16, bool)}
    put = mesh.put_batch(batch, eight)
    for name, array in batch.items():
        np.testing.assert_array_equal(put[name], array)
        assert {shard.data.shape[0] for shard in put[name].addressable_shards} == {2}
    assert put["x"].sharding.mesh.axis_names == ("data",)
    one = mesh.put_batch(batch, mesh.data_mesh(jax.devices()[:1]))
    assert len(one["x"].addressable_shards) == 1
