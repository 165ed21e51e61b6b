"""Similarities of a device's clips to the captions of all devices: which arrays are sent.

The embeddings of one side are sent: y, the phrases, unless x is so small that it is cheaper to send
x and to return the results (``gather`` only). The exchanges:

``gather``
    An all-gather gives every device all of y, [C,P,D]. The gradient of y is summed by a
    reduce-scatter.

``ring``
    Each device's y moves around the ring of devices by ppermute. A device computes with a chunk
    while it sends the chunk to the next device, so that computing and sending can overlap. It holds
    at most two chunks. The backward pass sends y around again. The gradient of each chunk follows
    one step behind and collects every device's part until it is back at its own device; a
    reduce-scatter would need the gradient of all of y on one device. Similarities of each chunk are
    computed again, which costs one product more than ``gather``.

Gradients are summed over devices in float32 or wider, whatever the embeddings' dtype.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from fgmm.losses.collectives import (
    AxisName,
    accumulation_dtype,
    all_gather,
    devices,
    first_clip,
    ppermute,
    varying_alike,
)
from fgmm.losses.options import check_choice
from fgmm.losses.reverse_mode import reverse_mode_only

EXCHANGES = ("gather", "ring")

# x [b,N,D], y [c,P,D], their weights x_weights [b,N] and y_weights [c,P], and scalars.
Operands = dict[str, Array]

_FORWARD_MODE = (
    "embeddings that travel around a ring, or in bfloat16, have derivatives of reverse mode alone; "
    "for forward mode (jax.jvp, jax.jacfwd) pass exchange='gather' and float32"
)

# The operands that are sent together: of y, and of x.
_OF_Y = ("y", "y_weights")
_OF_X = ("x", "x_weights")


def with_all_captions(
    compute: Callable,
    operands: Operands,
    x_mask: Bool[Array, "b N"] | None,
    y_mask: Bool[Array, "C P"] | None,
    *,
    returned: int,
    axis_name: AxisName,
    exchange: str,
):
    """``compute(operands, x_mask, y_mask)`` of this device's x and every device's y.

    Args:
      compute: makes a pytree of arrays [b,c,...] from x [b,N,D] and y [c,P,D]; entry [b,c] depends
        on clip b and caption c only. It must not close over traced values.
      operands: this device's ``x`` and ``y``, ``x_weights`` and ``y_weights`` if there are any, and
        scalars by name.
      x_mask: mask of this device's clips.
      y_mask: mask of the captions of all devices.
      returned: how many numbers ``compute`` returns for a clip and a caption.
      axis_name: the mapped axis or axes; None for a single device.
      exchange: 'gather' or 'ring'.

    Returns:
      The pytree of ``compute``, with arrays [b,C,...].

    Raises:
      ValueError: an unknown exchange.
    """
    check_choice("exchange", exchange, EXCHANGES)
    if axis_name is None:
        return compute(operands, x_mask, y_mask)
    if exchange == "ring":
        operands = reverse_mode_only(operands, _FORWARD_MODE)
        return _around(compute, axis_name, varying_alike(operands), (x_mask, y_mask))
    y = operands["y"]
    if not x_travels(operands, returned):
        return compute(all_captions(operands, axis_name), x_mask, y_mask)
    columns = compute(
        _with_all_of(axis_name, operands, _OF_X),
        all_gather(x_mask, axis_name),
        _captions_of(first_clip(len(y), axis_name), len(y), y_mask, axis=0),
    )
    return jax.tree.map(lambda v: lax.all_to_all(v, axis_name, 0, 1, tiled=True), columns)


def all_captions(operands: Operands, axis_name: AxisName) -> Operands:
    """The operands with y and its weights all-gathered from all devices, [C,P,D] and [C,P]."""
    return operands if axis_name is None else _with_all_of(axis_name, operands, _OF_Y)


def x_travels(operands: Operands, returned: int) -> bool:
    """Whether ``gather`` sends x and returns similarities, if these are fewer bytes than y.

    It depends on shapes and dtypes only. Each other device sends b·N·D and then b·c·returned
    numbers, instead of c·P·D. So x is never sent if N is at least P. With N = 1, D = 512 and P = 4
    phrases, each with a similarity to return, x is sent below 384 clips per device.
    """
    x, y = operands["x"], operands["y"]
    similarities = len(x) * len(y) * returned
    back = similarities * accumulation_dtype(jnp.promote_types(x.dtype, y.dtype)).itemsize
    return _bytes(operands, _OF_X) + back < _bytes(operands, _OF_Y)


def _bytes(operands, names):
    return sum(v.size * v.dtype.itemsize for v in _some(operands, names).values())


def _with_all_of(axis_name, operands, names):
    """The operands, some of them gathered from all devices."""
    return operands | {name: _all_of(axis_name, v) for name, v in _some(operands, names).items()}


def _some(operands, names):
    return {name: v for name, v in operands.items() if name in names}


def _all_of(axis_name, v):
    """As ``collectives.all_gather``, but gradients are summed in the accumulation dtype."""
    if v.dtype == accumulation_dtype(v.dtype):
        return all_gather(v, axis_name)
    return _all_of_narrow(axis_name, reverse_mode_only(v, _FORWARD_MODE))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _all_of_narrow(axis_name, v):
    return all_gather(v, axis_name)


def _summed_share(axis_name, _, cotangent):
    total = cotangent.astype(accumulation_dtype(cotangent.dtype))
    return (lax.psum_scatter(total, axis_name, tiled=True).astype(cotangent.dtype),)


_all_of_narrow.defvjp(lambda axis_name, v: (all_gather(v, axis_name), None), _summed_share)


def _captions_of(first, count, v, axis):
    """``count`` captions of ``v`` from number ``first`` on; None stays None."""
    return None if v is None else lax.dynamic_slice_in_dim(v, first, count, axis)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _WantedOperands:
    """The operands whose gradients are needed; known when a derivative is traced."""

    names: frozenset[str]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _around(compute, axis_name, operands, masks):
    x_mask, y_mask = masks
    count, clips = devices(axis_name), len(operands["y"])

    def step(chunk, sender):
        following = _ppermute_chunk(chunk, axis_name)
        mask = _captions_of(sender * clips, clips, y_mask, axis=0)
        return following, compute(operands | chunk, x_mask, mask)

    senders = _senders(axis_name)
    _, found = lax.scan(step, _some(operands, _OF_Y), senders)

    def in_order(v):
        # The permutation ``senders`` is its own inverse.
        v = jnp.moveaxis(v[senders], 0, 1)
        return v.reshape(len(v), count * clips, *v.shape[3:])

    return jax.tree.map(in_order, found)


def _ppermute_chunk(chunk, axis_name):
    return {name: ppermute(v, axis_name) for name, v in chunk.items()}


def _senders(axis_name):
    """The device whose chunk of y this device holds, at each step."""
    count = devices(axis_name)
    return (lax.axis_index(axis_name) - jnp.arange(count)) % count


def _around_forward(compute, axis_name, operands, masks):
    wanted = _WantedOperands(frozenset(name for name, v in operands.items() if v.perturbed))
    operands, masks = jax.tree.map(lambda v: v.value, (operands, masks))
    return _around(compute, axis_name, operands, masks), (wanted, operands, masks)


def _around_backward(compute, axis_name, residuals, cotangents):
    wanted, operands, (x_mask, y_mask) = residuals
    clips = len(operands["y"])

    def instantiated(v):
        symbolic = isinstance(v, jax.custom_derivatives.SymbolicZero)
        return jnp.zeros(v.shape, v.dtype) if symbolic else v

    cotangents = jax.tree.map(instantiated, cotangents)

    def step(carry, sender):
        chunk, gradients = carry
        following = _ppermute_chunk(chunk, axis_name)
        held = operands | chunk
        first = sender * clips
        mask = _captions_of(first, clips, y_mask, axis=0)
        _, pull_back = jax.vjp(
            lambda some: compute({**held, **some}, x_mask, mask),
            {name: held[name] for name in wanted.names},
        )
        cotangent = jax.tree.map(lambda v: _captions_of(first, clips, v, axis=1), cotangents)
        (found,) = pull_back(cotangent)
        gradients = gradients | _ppermute_chunk(_some(gradients, _OF_Y), axis_name)
        return (following, jax.tree.map(jnp.add, gradients, found)), None

    zeros = {
        n: jnp.zeros(v.shape, accumulation_dtype(v.dtype))
        for n, v in operands.items()
        if n in wanted.names
    }
    zeros, _ = varying_alike((zeros, operands["y"]))
    start = _some(operands, _OF_Y), zeros
    (_, gradients), _ = lax.scan(step, start, _senders(axis_name))
    gradients = gradients | _ppermute_chunk(_some(gradients, _OF_Y), axis_name)
    return {
        name: gradients[name].astype(v.dtype) if name in gradients else None
        for name, v in operands.items()
    }, None


_around.defvjp(_around_forward, _around_backward, symbolic_zeros=True)
