"""Losses over a device mesh on which every device keeps the embeddings of its own clips.

``sharded`` turns a loss that takes ``axis_name`` into a loss of whole arrays, under ``jit``. Within
your own ``shard_map``, call the functions of ``similarity`` and ``contrastive`` with
``axis_name``::

    def loss(x, y, temperature):  # of a device's own clips [b,N,D] and [b,P,D]
        s = pooled_similarity(x, y, pool="softmax", temperature=0.1, axis_name="data")
        return fine_grained_nce(s, temperature=temperature, axis_name="data")

**Gradients.** Within ``shard_map`` with its default ``check_vma=True`` all gradients are exact. If
the loss is the same number on every device, as 'mean' is, a device gets the gradient of its own
clips, and every device gets the whole gradient of a replicated parameter. In ``pmap``, and with
``check_vma=False``, JAX differentiates the sum of what all devices return, which is ``devices``
times the loss. So average the gradients of parameters with ``lax.pmean``, as data-parallel trainers
do, and they are exact; divide the gradients of a device's own embeddings by ``devices``. If each
device sums its losses of 'none' and differentiates its own sum, gradients of embeddings are exact,
and those of a parameter need ``lax.psum``.

**Bytes.** The table says what a device receives in a step, for value and gradient. There are n
devices with b = c clips each, e bytes per number of an embedding and w bytes per number of a sum
(4, or 8 for float64). R is the number of scores of a clip and a caption: 1 in direction x_to_y or
with a gate of phrases, else P, or P + 1 in direction symmetric.

====================== ========================================================================
similarities, gather   (n − 1) c·P·D (e + w): y one way, its gradient back
gather, x smaller      (n − 1) (b·N·D (e + w) + 2 b·c·R·w): x, s, and their gradients
similarities, ring     c·P·D (2 n·e + (n + 1) w): y around twice, its gradient around once
their masks            (n − 1) c·P, and (n − 1) b·N if x is sent
gate of phrases        (n − 1) 2 c·P·w by gather, c·P·w (3 n + 1) by ring: weights sent like y
gate of x, x smaller   (n − 1) 2 b·N·w: weights sent like x; otherwise they are not sent
choice of candidates   (n − 1) c (D·e + 2): coarse embeddings, masks; and y as with gather
hardest candidates     (n − 1) c·2 w more: sums of columns of coarse scores
info_nce               (n − 1) c (2 w + 1): sums of columns, their gradient, ``valid``
sigmoid                (n − 1) c: ``valid``
mil_nce                (n − 1) c (2 w + J): sums of columns, their gradient, ``mask``
fine_grained_nce       (n − 1) c·P (2 w + 5): the same for each phrase, and ``phrase_ids``
sparc                  nothing
====================== ========================================================================

and a few scalars: the loss, the number of valid clips, gradients of temperatures. x [b,N,D] is by
far the larger side if clips are compared cell by cell, and is then not sent. ``received_bytes``
computes this table; a test compares it with the compiled program.
"""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from fgmm.losses.exchange import EXCHANGES
from fgmm.losses.options import check_choice
from fgmm.losses.similarity import DIRECTIONS

LOSSES = ("info_nce", "sigmoid", "mil_nce", "fine_grained_nce", "sparc")


def sharded(
    loss: Callable[..., Any],
    mesh: Mesh,
    *,
    axes: str | Sequence[str] | None = None,
    replicated: Collection[int | str] = (),
    exchange: str = "gather",
) -> Callable[..., Any]:
    """Turns a loss that takes ``axis_name`` into a loss of the clips of all devices.

    The loss may be an ``Objective``, whose parameters and step every device holds, a function of
    ``contrastive``, or any function that passes ``axis_name`` on to ``similarity`` and
    ``contrastive``::

        over_mesh = sharded(objective, mesh, replicated=(0,))
        loss, metrics = over_mesh(parameters, embeddings, batch, step)

        loss = sharded(contrastive.info_nce, mesh)(S, temperature=0.07, valid=valid)

    Args:
      loss: takes arrays of a device's own clips and the keyword ``axis_name``, and returns a pytree
        of scalars that are the same on all devices. If it takes ``exchange``, it is given that too.
      mesh: the mesh of all devices.
      axes: the axes of the mesh over which clips are sharded; None for all of them.
      replicated: positions and names of the arguments that every device holds whole. Other
        arguments are pytrees of arrays [B, ...], with B a multiple of the number of devices.
        Scalars are always replicated.
      exchange: how embeddings are sent, 'gather' or 'ring'; see ``exchange``.

    Returns:
      A function of the same arguments, for all B clips, to be called under ``jit``. Keywords that
      are not arrays, such as ``pool="max"``, are passed on.

    Raises:
      ValueError: an unknown exchange, axes that the mesh does not have, a loss without
        ``axis_name``, 'ring' for a loss without ``exchange``, or, when the function is called, a
        loss that returns anything but scalars.
    """
    check_choice("exchange", exchange, EXCHANGES)
    axes = mesh.axis_names if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)
    for axis in axes:
        check_choice("axes of the mesh", axis, mesh.axis_names)
    across = {"axis_name": axes, "exchange": exchange}
    across = {name: value for name, value in across.items() if _takes(loss, name)}
    if "axis_name" not in across:
        raise ValueError(
            f"loss must take axis_name and hand it on, or negatives are local; got {loss}"
        )
    if "exchange" not in across and exchange != "gather":
        raise ValueError(f"exchange {exchange!r} needs a loss that takes exchange; got {loss}")
    by_clip, whole = PartitionSpec(axes), PartitionSpec()

    def specs_of(place, argument):
        for leaf in jax.tree.leaves(argument):
            yield whole if place in replicated or jnp.ndim(leaf) == 0 else by_clip

    def over_mesh(*arguments, **named):
        arrays = {name: v for name, v in named.items() if _is_of_arrays(v)}
        options = {name: v for name, v in named.items() if name not in arrays} | across

        # Flattened, since a container of arrays may refuse to hold specs.
        leaves, structure = jax.tree.flatten((arguments, arrays))
        # JAX sorts the keys of a dict.
        places = [*enumerate(arguments), *sorted(arrays.items())]

        def local(*leaves):
            arguments, arrays = jax.tree.unflatten(structure, leaves)
            found = loss(*arguments, **arrays, **options)
            for leaf in jax.tree.leaves(found):
                if jnp.ndim(leaf):
                    raise ValueError(
                        f"loss must return scalars, as with reduction 'mean'; got {leaf.shape}"
                    )
            return found

        specs = tuple(spec for place, argument in places for spec in specs_of(place, argument))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=whole)(*leaves)

    return over_mesh


def _takes(function, name):
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _is_of_arrays(value):
    return all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(value))


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
    direction: str = "y_to_x",
    x_gated: bool = False,
    y_gated: bool = False,
    negatives: str = "all",
) -> int:
    """The bytes that a device receives for the value and the gradient of a loss: see the module.

    Args:
      loss: 'info_nce' or 'sigmoid' of scores, or 'mil_nce' or 'fine_grained_nce' of pooled
        similarities (J = P), or 'sparc'.
      devices: n.
      clips: b, clips on each device.
      N, P, D: embeddings of a clip, embeddings of a caption, and their width.
      exchange: 'gather' or 'ring'.
      itemsize: e, bytes per number of an embedding.
      masked: whether x and y have masks, and phrases have identities.
      direction: direction of scores, as in ``similarity.clip_similarity``.
      x_gated, y_gated: whether local embeddings and phrases have a gate in scores.
      negatives: which scores: 'all', or those chosen by coarse scores, 'hardest' or 'importance'.
        For m sampled phrases use 'all' with P = m.

    Raises:
      ValueError: an unknown loss, exchange, direction or kind of negatives.
    """
    check_choice("loss", loss, LOSSES)
    check_choice("exchange", exchange, EXCHANGES)
    check_choice("direction", direction, DIRECTIONS)
    check_choice("negatives", negatives, ("all", "hardest", "importance"))
    others, sums = devices - 1, max(itemsize, 4)
    if loss == "sparc":
        return 0
    of_y, of_x = clips * P * D, clips * N * D
    y_gate, x_gate = clips * P * sums * y_gated, clips * N * sums * x_gated
    by_phrase = direction != "x_to_y" and not y_gated
    returned = P + (direction == "symmetric") if by_phrase else 1
    of_s = clips * clips * returned * sums
    total = others * clips * P * masked
    if exchange == "ring":
        total += of_y * (2 * devices * itemsize + (devices + 1) * sums)
        total += y_gate * (3 * devices + 1)
    elif negatives == "all" and of_x * itemsize + x_gate + of_s < of_y * itemsize + y_gate:
        total += others * (of_x * (itemsize + sums) + 2 * (of_s + x_gate) + clips * N * masked)
    else:
        total += others * (of_y * (itemsize + sums) + 2 * y_gate)
    if negatives != "all":
        of_columns = 2 * sums if negatives == "hardest" else 0
        total += others * clips * (D * itemsize + 1 + masked + of_columns)
    of_contrast = {
        "info_nce": 2 * sums + 1,
        "sigmoid": 1,
        "mil_nce": 2 * sums + P,
        "fine_grained_nce": P * (2 * sums + (5 if masked else 1)),
    }
    return total + others * clips * of_contrast[loss]
