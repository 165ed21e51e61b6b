"""Gradient accumulation: a step of several micro-batches, each with its own loss.

Such a step differs from the step of the whole batch. A clip is compared only with the clips of its
micro-batch, so it has ``batch_size / accumulate - 1`` negatives and not ``batch_size - 1``, and
batch norms see the statistics of the micro-batch. Accumulation takes one forward pass less than
``fgmm.train.grad_cache``; if negatives matter, the cache is the better choice. Both can be
combined: every micro-batch of the accumulation is then embedded in ``grad_cache`` parts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from fgmm.train.mesh import split

Metrics = dict[str, Array]


def accumulate_gradients(
    of_part: Callable[[Any, PRNGKeyArray], tuple[Array, Metrics, Any, Any]],
    clips: Any,
    key: PRNGKeyArray,
    *,
    micro_batches: int,
    mesh: Mesh,
) -> tuple[Array, Metrics, Any, Any]:
    """The means over micro-batches of loss, metrics, new statistics and gradients.

    Every micro-batch has the same weight, however many valid clips it has.

    Args:
      of_part: ``(part of clips, key) -> (loss, metrics, statistics, gradients)``.
      clips: a pytree of arrays [B, ...]; micro-batch m holds the clips m, m + M, m + 2M, ...
      key: micro-batch m gets ``fold_in(key, m)``.
      micro_batches: M; it must divide the clips of each device.
      mesh: the clips are sharded over its devices.
    """
    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(micro_batches))
    parts = (split(clips, micro_batches, mesh), keys)

    def add(total, part):
        loss, metrics, statistics, gradients = of_part(*part)
        return jax.tree.map(jnp.add, total, gradients), (loss, metrics, statistics)

    *_, like = jax.eval_shape(of_part, *jax.tree.map(lambda x: x[0], parts))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    total, others = jax.lax.scan(add, zero, parts)
    loss, metrics, statistics = jax.tree.map(lambda x: jnp.mean(x, axis=0).astype(x.dtype), others)
    return loss, metrics, statistics, jax.tree.map(lambda x: x / micro_batches, total)
