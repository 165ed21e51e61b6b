"""The same losses over a device mesh, on which every device keeps the embeddings of its own clips.

``sharded`` makes a loss of whole arrays, under ``jit``, from one that takes ``axis_name``. Within a
``shard_map`` of one's own the functions of ``similarity`` and ``contrastive`` are called with
``axis_name`` themselves::

    def loss(x, y, temperature):  # of a device's own clips [b,N,D] and [b,P,D]
        s = pooled_similarity(x, y, pool="softmax", temperature=0.1, axis_name="data")
        return fine_grained_nce(s, None, temperature, axis_name="data")

**Gradients.** Within ``shard_map`` as it is by default (``check_vma=True``) all are exact: of a
loss that is the same number on every device, as 'mean' is, a device gets the gradient of its own
clips, and every device the whole gradient of a replicated parameter. In ``pmap``, and with
``check_vma=False``, JAX differentiates the sum over devices of what each of them returns, and that
is the same loss ``devices`` times. So average the gradients of parameters with ``lax.pmean``, as
data-parallel trainers do, and they are exact; divide those of a device's own embeddings by
``devices``. Where each device sums up the local losses that 'none' returns and differentiates its
own sum, gradients are exact for embeddings, and a parameter's wants ``lax.psum``.

**Bytes.** With n devices, b = c clips on each, embeddings of e bytes a number and sums of w bytes
(4, or 8 for float64), a device receives in a step, for value and gradient:

====================== ========================================================================
similarities, gather   (n − 1) c·P·D (e + w): y one way, its gradient back
gather, x smaller      (n − 1) (b·N·D (e + w) + 2 b·c·P·w): x and its gradient, s and its own
similarities, ring     c·P·D (2 n·e + (n + 1) w): y around twice, its gradient behind it once
their masks            (n − 1) c·P, and (n − 1) b·N if x travels
gate of phrases        (n − 1) 2 c·P·w by gather, c·P·w (3 n + 1) by ring: their weights as y
gate, x smaller        s is [b,c]: P is 1 above; the gate of phrases stays where it is
info_nce               (n − 1) c (2 w + 1): sums of columns, their gradient, ``valid``
sigmoid                (n − 1) c: ``valid``
mil_nce                (n − 1) c (2 w + J): sums of columns, their gradient, ``mask``
fine_grained_nce       (n − 1) c·P (2 w + 5): the same for each phrase, and ``phrase_ids``
sparc                  nothing
====================== ========================================================================

and a few scalars: the loss, the number of valid clips, gradients of temperatures. x [b,N,D], the
larger side by far where clips are compared cell by cell, does not travel. ``received_bytes`` is
this table; a test compares it with the compiled program.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from fgmm.losses.exchange import EXCHANGES
from fgmm.losses.options import check_choice

LOSSES = ("info_nce", "sigmoid", "mil_nce", "fine_grained_nce", "sparc")


def sharded(
    loss: Callable[..., Any],
    mesh: Mesh,
    *,
    axes: str | Sequence[str] | None = None,
    replicated: Collection[int] = (),
    exchange: str = "gather",
) -> Callable[..., Any]:
    """A loss of the clips of all devices.

    An ``Objective``, for example, whose parameters and step every device holds::

        over_mesh = sharded(objective, mesh, replicated=(0, 3))
        loss, metrics = over_mesh(parameters, embeddings, batch, step)

    Args:
      loss: takes arrays of a device's own clips and the keywords ``axis_name`` and ``exchange``,
        and returns a pytree of scalars that are the same on all devices.
      mesh: of all devices.
      axes: of the mesh, over which clips are spread; None for all of them.
      replicated: positions of those arguments that every device holds whole. The others are
        pytrees of arrays [B, ...], B a multiple of the number of devices.
      exchange: how embeddings travel, 'gather' or 'ring'; see ``exchange``.

    Returns:
      A function of the same positional arguments, for all B clips, to be called under ``jit``.

    Raises:
      ValueError: an unknown exchange, or axes that the mesh does not have.
    """
    check_choice("exchange", exchange, EXCHANGES)
    axes = mesh.axis_names if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
    for axis in axes:
        check_choice("axes of the mesh", axis, mesh.axis_names)
    by_clip, whole = PartitionSpec(axes), PartitionSpec()
    local = functools.partial(loss, axis_name=axes, exchange=exchange)

    def over_mesh(*arguments):
        specs = tuple(whole if i in replicated else by_clip for i in range(len(arguments)))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=whole)(*arguments)

    return over_mesh


def received_bytes(
    loss: str,
    *,
    devices: int,
    clips: int,
    N: int,
    P: int,
    D: int,
    exchange: str = "gather",
    itemsize: int = 4,
    masked: bool = True,
    gated: bool = False,
) -> int:
    """The bytes that a device receives for the value and the gradient of a loss: see the module.

    Args:
      loss: 'info_nce' or 'sigmoid' of the scores 'y_to_x', or 'mil_nce' or 'fine_grained_nce' of
        pooled similarities (J = P), or 'sparc'.
      devices: n.
      clips: b, of each device.
      N, P, D: embeddings of a clip and of a caption, and their width.
      exchange: 'gather' or 'ring'.
      itemsize: e, of a number of an embedding.
      masked: whether x and y have masks, and phrases identities.
      gated: whether phrases have a gate, of 'info_nce' or 'sigmoid'.

    Raises:
      ValueError: an unknown loss or exchange.
    """
    check_choice("loss", loss, LOSSES)
    check_choice("exchange", exchange, EXCHANGES)
    others, sums = devices - 1, max(itemsize, 4)
    if loss == "sparc":
        return 0
    of_y, of_x = clips * P * D, clips * N * D
    of_s = clips * clips * (1 if gated else P) * sums
    of_gate = clips * P * sums * gated
    total = others * clips * P * masked
    if exchange == "ring":
        total += of_y * (2 * devices * itemsize + (devices + 1) * sums)
        total += of_gate * (3 * devices + 1)
    elif of_x * itemsize + clips * clips * P * sums < of_y * itemsize:
        total += others * (of_x * (itemsize + sums) + 2 * of_s + clips * N * masked)
    else:
        total += others * (of_y * (itemsize + sums) + 2 * of_gate)
    of_contrast = {
        "info_nce": 2 * sums + 1,
        "sigmoid": 1,
        "mil_nce": 2 * sums + P,
        "fine_grained_nce": P * (2 * sums + (5 if masked else 1)),
    }
    return total + others * clips * of_contrast[loss]
