"""GradCache: exact gradients of a batch whose activations do not fit in memory.

After Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021
(arXiv 2101.06983). A contrastive loss compares every clip with every other, so it is no sum over
micro-batches; accumulated gradients are those of another loss, with fewer negatives. But the loss
needs only the embeddings of all clips. So micro-batches are embedded without keeping activations,
the gradient of the loss with respect to all embeddings is taken once, and each micro-batch is
embedded again to propagate its part of that gradient to the parameters.

It costs one more forward pass. The gradient is that of the whole batch with one exception: batch
norms see the statistics of their micro-batch. The new running statistics are the mean of those that
each micro-batch would give.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from fgmm.train.mesh import join, split

Metrics = dict[str, Array]


def cache_gradients(
    embed: Callable[[Any, Any, PRNGKeyArray], tuple[Any, Any]],
    contrast: Callable[[Any, Any], tuple[Array, Metrics]],
    params: Mapping[str, Any],
    clips: Any,
    key: PRNGKeyArray,
    *,
    micro_batches: int,
    mesh: Mesh,
) -> tuple[Array, Metrics, Any, dict[str, Any]]:
    """Loss, metrics, new statistics and the gradient of ``params``.

    Micro-batch m holds the clips m, m + M, m + 2M, ..., so that every device embeds its own clips.

    Args:
      embed: ``(params["model"], part, key) -> (embeddings, statistics)`` of a part of ``clips``; a
        clip's embeddings, arrays [B, ...], depend on that clip alone.
      contrast: ``(params["objective"], embeddings) -> (loss, metrics)`` of the whole batch.
      params: ``{"model": ..., "objective": ...}``.
      clips: a pytree of arrays [B, ...].
      key: micro-batch m is embedded with ``fold_in(key, m)``, both times.
      micro_batches: M; it must divide the clips of each device.
      mesh: the clips are sharded over its devices.
    """
    structure = None

    def embed_part(model_params, part_and_key):
        nonlocal structure
        embeddings, statistics = embed(model_params, *part_and_key)
        leaves, structure = jax.tree.flatten(embeddings)
        floating, others = _partition(leaves)
        return floating, (others, statistics)

    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(micro_batches))
    parts = (split(clips, micro_batches, mesh), keys)
    floating, (others, statistics) = jax.lax.map(
        lambda part: embed_part(params["model"], part), parts
    )

    def loss_of(objective_params, floating):
        embeddings = jax.tree.unflatten(structure, _whole(floating, join(others)))
        return contrast(objective_params, embeddings)

    (loss, metrics), (objective_gradient, cotangents) = jax.value_and_grad(
        loss_of, argnums=(0, 1), has_aux=True
    )(params["objective"], join(floating))

    def replay(gradient, part_and_cotangent):
        part, cotangent = part_and_cotangent
        _, pull_back, _ = jax.vjp(lambda p: embed_part(p, part), params["model"], has_aux=True)
        (more,) = pull_back(cotangent)
        return jax.tree.map(jnp.add, gradient, more), None

    zero = jax.tree.map(jnp.zeros_like, params["model"])
    cotangents = split(cotangents, micro_batches, mesh)
    model_gradient, _ = jax.lax.scan(replay, zero, (parts, cotangents))
    statistics = jax.tree.map(lambda x: jnp.mean(x, axis=0).astype(x.dtype), statistics)
    return loss, metrics, statistics, {"model": model_gradient, "objective": objective_gradient}


def _partition(leaves):
    """Arrays with a gradient and those without, each with None in the places of the others."""
    floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]
    return (
        [x if has else None for x, has in zip(leaves, floating, strict=True)],
        [None if has else x for x, has in zip(leaves, floating, strict=True)],
    )


def _whole(floating, others):
    """The inverse of ``_partition``."""
    return [b if a is None else a for a, b in zip(floating, others, strict=True)]
