"""Devices as a mesh: one device is a mesh too."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgmm.config import ConfigError


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices of all processes along the axis ``data``."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), ("data",))


def check_batch_size(batch_size: int, mesh: Mesh, micro_batches: int = 1) -> None:
    """
    Raises:
      ConfigError: the devices cannot share the batch, or each of its micro-batches, evenly.
    """
    if batch_size <= 0 or batch_size % mesh.size:
        raise ConfigError(
            f"batch_size={batch_size} must be a positive multiple of the {mesh.size} devices"
        )
    if batch_size % (mesh.size * micro_batches):
        raise ConfigError(
            f"grad_cache={micro_batches} must divide the {batch_size // mesh.size} clips of each "
            f"device (batch_size={batch_size} on {mesh.size} devices)"
        )


def by_clip(mesh: Mesh) -> NamedSharding:
    """The first axis, clips, is spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """This process's share of a batch as global arrays; returns before the copies are done."""
    sharding = by_clip(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }
