"""Collectives over the devices of a mapped axis. With ``axis_name`` None there is one device.

Clips are sharded evenly over a mapped axis, or over several axes taken as one, in the order of
``axis_index``. A device holds the captions of its own clips.
"""

import jax
import jax.numpy as jnp
from jax import lax

AxisName = str | tuple[str, ...] | None


def devices(axis_name: AxisName) -> int:
    """The number of devices of the axis."""
    return 1 if axis_name is None else lax.axis_size(axis_name)


def first_clip(clips: int, axis_name: AxisName):
    """The number of this device's first clip, if every device has ``clips`` of them."""
    return 0 if axis_name is None else clips * lax.axis_index(axis_name)


def matched_pairs(clips: int, captions: int, axis_name: AxisName):
    """[b,C]: which of all captions belong to this device's clips."""
    own = first_clip(clips, axis_name) + jnp.arange(clips)
    return own[:, None] == jnp.arange(captions)[None]


def all_gather(v, axis_name: AxisName):
    """The arrays [b, ...] of all devices as [B, ...] on every device; None stays None."""
    return v if v is None or axis_name is None else lax.all_gather(v, axis_name, tiled=True)


def psum(v, axis_name: AxisName):
    """The sum over all devices."""
    return v if axis_name is None else lax.psum(v, axis_name)


def mean_of_valid(values, mask, axis_name: AxisName = None):
    """The mean over the valid clips of all devices, from values and their mask [b]; 0 where there
    are none.
    """
    total = psum(jnp.sum(jnp.where(mask, values, 0.0)), axis_name)
    return total / jnp.maximum(psum(jnp.sum(mask), axis_name), 1).astype(values.dtype)


def all_to_all(v, axis_name: AxisName):
    """Sends each device's results [C, ...] to the devices that hold the captions.

    Returns:
      The results of every device for this device's captions, [devices, c, ...].
    """
    if axis_name is None:
        return v[None]
    return lax.all_to_all(v.reshape(devices(axis_name), -1, *v.shape[1:]), axis_name, 0, 0)


def ppermute(v, axis_name: AxisName):
    """The array of the previous device in the ring; the last device precedes the first."""
    count = devices(axis_name)
    return lax.ppermute(v, axis_name, [(i, (i + 1) % count) for i in range(count)])


def varying_alike(operands):
    """Marks operands as varying over the same axes of a mesh, as loops within ``shard_map``
    require.
    """
    leaves = jax.tree.leaves(operands)
    axes = frozenset().union(*(jax.typeof(leaf).mat.varying for leaf in leaves))
    return jax.tree.map(
        lambda leaf: lax.pcast(leaf, tuple(axes - jax.typeof(leaf).mat.varying), to="varying"),
        operands,
    )


def accumulation_dtype(dtype):
    """The dtype in which arrays of this dtype are summed: float32 or wider."""
    return jnp.promote_types(dtype, jnp.float32)
