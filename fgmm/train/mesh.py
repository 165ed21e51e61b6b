"""Devices as a mesh: one device is a mesh too.

The mesh has two axes. Clips are sharded over both. Parameters and the optimizer's state are sharded
over ``fsdp`` (see ``fgmm.train.sharding``) and replicated over ``data``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgmm.config import ConfigError

AXES = ("data", "fsdp")


def make_mesh(devices: Sequence[jax.Device] | None = None, *, fsdp: int = 1) -> Mesh:
    """The mesh of all devices of all processes, in the order of processes.

    Neighbours along ``fsdp`` are neighbours in that order, so that the collectives along it stay
    within a process if possible.

    Args:
      devices: all of ``jax.devices()`` by default.
      fsdp: devices that share one copy of the parameters.

    Raises:
      ConfigError: ``fsdp`` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % fsdp:
        raise ConfigError(f"mesh.fsdp={fsdp} must divide the number of devices, {len(devices)}")
    in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(in_order).reshape(-1, fsdp), AXES)


def check_batch_size(
    batch_size: int, mesh: Mesh, *, accumulate: int = 1, grad_cache: int = 1
) -> None:
    """Checks that the devices can share a batch evenly.

    Args:
      batch_size: clips over all devices.
      mesh: of the devices.
      accumulate, grad_cache: numbers of micro-batches, as in the config.

    Raises:
      ConfigError: the devices cannot share the batch, or each of its micro-batches, evenly.
    """
    if batch_size <= 0 or batch_size % mesh.size:
        raise ConfigError(
            f"batch_size={batch_size} must be a positive multiple of the {mesh.size} devices"
        )
    if batch_size % (mesh.size * accumulate * grad_cache):
        parts = {"accumulate": accumulate, "grad_cache": grad_cache}
        named = " times ".join(f"{key}={n}" for key, n in parts.items() if n > 1)
        raise ConfigError(
            f"{named} must divide the {batch_size // mesh.size} clips of each device "
            f"(batch_size={batch_size} on {mesh.size} devices)"
        )


def by_clip(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays whose first axis is clips, over all devices."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """This process's share of a batch, arrays [b, ...], as global arrays [B, ...].

    It returns before the copies to the devices are done.
    """
    sharding = by_clip(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def replicated(tree: Any, mesh: Mesh) -> Any:
    """The whole arrays on every device; every process has to call it.

    If all arrays are replicated already, the result is ``tree`` itself and no copy of it.
    """
    if all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.jit(lambda tree: tree, out_shardings=everywhere(mesh))(tree)


def split(arrays: Any, parts: int, mesh: Mesh) -> Any:
    """Arrays [B, ...] as [M, B/M, ...], every device keeping its clips.

    Part m holds the clips m, m + M, m + 2M, ..., however many devices there are.

    Args:
      arrays: a pytree.
      parts: M; it must divide the clips of each device.
      mesh: the clips are sharded over its devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names))

    def of_array(x):
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])
        return jax.lax.with_sharding_constraint(x.swapaxes(0, 1), sharding)

    return jax.tree.map(of_array, arrays)


def join(arrays: Any) -> Any:
    """The inverse of ``split``."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), arrays)
