"""What devices tell each other; with ``axis_name`` None there is one device, and nothing to tell.

Clips are shared evenly among the devices of a mapped axis, or of several as one, in the order of
``axis_index``. A device's captions are those of its clips.
"""

import jax
import jax.numpy as jnp
from jax import lax

AxisName = str | tuple[str, ...] | None


def devices(axis_name: AxisName) -> int:
    return 1 if axis_name is None else lax.axis_size(axis_name)


def first_clip(clips: int, axis_name: AxisName):
    """The number of this device's first clip, of which it has ``clips``."""
    return 0 if axis_name is None else clips * lax.axis_index(axis_name)


def all_gather(v, axis_name: AxisName):
    """[b, ...] of every device as [B, ...] on every device; None stays None."""
    return v if v is None or axis_name is None else lax.all_gather(v, axis_name, tiled=True)


def psum(v, axis_name: AxisName):
    """The sum over all devices."""
    return v if axis_name is None else lax.psum(v, axis_name)


def all_to_all(v, axis_name: AxisName):
    """What each device has to say of each caption, [C, ...], at the caption's device.

    Returns:
      What every device says of this device's captions, [devices, c, ...].
    """
    if axis_name is None:
        return v[None]
    return lax.all_to_all(v.reshape(devices(axis_name), -1, *v.shape[1:]), axis_name, 0, 0)


def ppermute(v, axis_name: AxisName):
    """[...] of the device before this one, the last one being before the first."""
    count = devices(axis_name)
    return lax.ppermute(v, axis_name, [(i, (i + 1) % count) for i in range(count)])


def varying_alike(operands):
    """Operands that vary over the same axes of a mesh, as a loop within ``shard_map`` wants."""
    leaves = jax.tree.leaves(operands)
    axes = frozenset().union(*(jax.typeof(leaf).mat.varying for leaf in leaves))
    return jax.tree.map(
        lambda leaf: lax.pcast(leaf, tuple(axes - jax.typeof(leaf).mat.varying), to="varying"),
        operands,
    )


def accumulation_dtype(dtype):
    """The type in which numbers of this one are summed up: float32 or wider."""
    return jnp.promote_types(dtype, jnp.float32)
