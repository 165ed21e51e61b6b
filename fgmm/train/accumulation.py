"""Gradient accumulation: a step of several micro-batches, of which each has a loss of its own.

It is not the step of the whole batch. A clip meets the clips of its micro-batch alone, so it sees
``batch_size / accumulate - 1`` others and not ``batch_size - 1``, and layers that normalise by
statistics of the batch see those of the micro-batch. What it saves beside ``fgmm.train.grad_cache``
is one forward pass; where negatives count, the cache is the better choice. Both can be combined:
every micro-batch of the accumulation is then embedded in as many parts as ``grad_cache`` says.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from fgmm.train.mesh import split

Metrics = dict[str, Array]


def loss_and_gradients(
    of_part: Callable[[Any, PRNGKeyArray], tuple[Array, Metrics, Any, Any]],
    clips: Any,
    key: PRNGKeyArray,
    *,
    micro_batches: int,
    mesh: Mesh,
) -> tuple[Array, Metrics, Any, Any]:
    """The means over micro-batches of loss, metrics, new statistics and gradients.

    Every micro-batch counts alike, however many valid clips it has.

    Args:
      of_part: ``(part of clips, key) -> (loss, metrics, statistics, gradients)``.
      clips: a pytree of arrays [B, ...]; micro-batch m holds the clips m, m + M, m + 2M, ...
      key: micro-batch m gets ``fold_in(key, m)``.
      micro_batches: M, a divisor of B over the number of devices.
      mesh: over whose devices clips are spread.
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
