import jax
import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.train import mesh


def test_a_batch_that_does_not_divide_is_named():
    eight = mesh.make_mesh()
    assert eight.size == 8
    mesh.check_batch_size(16, eight)
    for batch_size in (0, -8, 12):
        with pytest.raises(ConfigError, match=f"batch_size={batch_size} must be .* 8 devices"):
            mesh.check_batch_size(batch_size, eight)


def test_micro_batches_are_shared_by_the_devices():
    eight = mesh.make_mesh()
    mesh.check_batch_size(32, eight, grad_cache=4)
    mesh.check_batch_size(32, eight, accumulate=2, grad_cache=2)
    for parts, named in (
        ({"grad_cache": 3}, "grad_cache=3"),
        ({"accumulate": 2, "grad_cache": 4}, "accumulate=2 times grad_cache=4"),
    ):
        with pytest.raises(ConfigError, match=f"{named} must divide the 4 clips of each device"):
            mesh.check_batch_size(32, eight, **parts)


def test_fsdp_has_to_divide_the_devices():
    assert dict(mesh.make_mesh(fsdp=4).shape) == {"data": 2, "fsdp": 4}
    with pytest.raises(ConfigError, match=r"mesh\.fsdp=3 must divide the number of devices, 8"):
        mesh.make_mesh(fsdp=3)


@pytest.mark.parametrize("parts", [1, 2])
def test_parts_of_a_batch_are_joined_as_they_were(parts):
    eight, x = mesh.make_mesh(fsdp=2), np.arange(16)
    split = mesh.split({"x": mesh.put_batch({"x": x}, eight)["x"]}, parts, eight)["x"]
    np.testing.assert_array_equal(split, x.reshape(-1, parts).T)
    np.testing.assert_array_equal(mesh.join(split), x)


def test_clips_are_spread_over_the_devices():
    eight = mesh.make_mesh()
    batch = {"x": np.arange(16.0).reshape(16, 1), "mask": np.ones(16, bool)}
    put = mesh.put_batch(batch, eight)
    for name, array in batch.items():
        np.testing.assert_array_equal(put[name], array)
        assert {shard.data.shape[0] for shard in put[name].addressable_shards} == {2}
    assert put["x"].sharding.mesh.axis_names == ("data", "fsdp")
    one = mesh.put_batch(batch, mesh.make_mesh(jax.devices()[:1]))
    assert len(one["x"].addressable_shards) == 1
