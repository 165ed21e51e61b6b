"""One pass over a corpus, on all devices of all processes that hold a state."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from fgmm.data import pipeline
from fgmm.data.pipeline import Assembler, Draw
from fgmm.train import mesh as meshes


def batches(
    assembler: Assembler,
    batch_size: int,
    state: Any,
    compute: Callable[[Any, pipeline.Batch], Any],
    first: int = 0,
) -> Iterator[tuple[pipeline.Batch, Any, int]]:
    """Computes every clip of a source once, in order, and yields the results on the host.

    If the state is on a mesh, each batch is sharded over its devices, and each process reads the
    clips of its own devices. All processes must call this function, and all get all results. The
    next batch is read while the devices compute.

    Args:
      assembler: of the batches.
      batch_size: clips at a time; on several devices rounded up to a multiple of their number.
      state: the first argument of ``compute``; on a mesh, or on one device.
      compute: maps a state and a batch, without the arrays of ``pipeline.HOST_ONLY``, to a tree of
        arrays whose first axis is clips.
      first: the clip to start from.

    Yields:
      The masks, ``record`` and ``problems`` of a batch; the computed tree; and the number of clips
      in the batch. Rows after these are copies that fill up the batch.
    """
    mesh = mesh_of(state)
    devices = 1 if mesh is None else mesh.size
    size = -(-batch_size // devices) * devices
    waiting = None
    for start in range(first, len(assembler.source), size):
        read = _share(assembler, start, size, mesh)
        given = read if mesh is None else meshes.put_batch(read, mesh)
        arrays = {name: x for name, x in given.items() if name not in pipeline.HOST_ONLY}
        small = {name: x for name, x in given.items() if _is_small(name)}
        started = small, compute(state, arrays), min(size, len(assembler.source) - start)
        if waiting is not None:
            yield _on_host(*waiting)
        waiting = started
    if waiting is not None:
        yield _on_host(*waiting)


def mesh_of(state: Any) -> Mesh | None:
    """The mesh that holds a state; None if the state is on one device without a mesh."""
    leaves = jax.tree.leaves(state)
    sharding = getattr(leaves[0], "sharding", None) if leaves else None
    return sharding.mesh if isinstance(sharding, NamedSharding) else None


def gathered(tree: Any) -> Any:
    """The whole arrays of a tree on the host of every process."""
    leaves = jax.tree.leaves(tree)
    if all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves):
        return jax.device_get(tree)
    whole = _replicate(leaves[0].sharding.mesh)(tree)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), whole)


def on_one_device(tree: Any) -> Any:
    """The whole arrays of a tree on the default device of this process."""
    return jax.tree.map(jnp.asarray, gathered(tree))


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=meshes.everywhere(mesh))


def _on_host(small: dict[str, Any], computed: Any, count: int):
    return gathered(small), gathered(computed), count


def _is_small(name: str) -> bool:
    return name.endswith("_mask") or name in pipeline.HOST_ONLY


def _share(assembler: Assembler, start: int, size: int, mesh: Mesh | None) -> pipeline.Batch:
    """This process's part of a batch."""
    processes = 1 if mesh is None else jax.process_count()
    own = size // processes
    begin = start + own * (jax.process_index() if processes > 1 else 0)
    records = range(begin, min(begin + own, len(assembler.source)))
    # In the last batch, some processes may have no clip of their own; they read another one.
    return assembler.batch([Draw(record) for record in records or [start]], own)
