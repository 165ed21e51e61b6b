"""One training step, jitted on a mesh."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray

from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.losses.sharded import sharded
from fgmm.train import accumulation, grad_cache, sharding
from fgmm.train.mesh import by_clip, everywhere

Metrics = dict[str, Array]

# Folded into the key of the objective's random draws. Micro-batches fold in small numbers, so no
# two keys are equal.
_DRAWS = 0x64726177


def make_train_step(
    experiment: Experiment, mesh: Mesh
) -> Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, Metrics]]:
    """Returns the jitted step ``(state, batch) -> (state, metrics)``. The input state is donated.

    A step whose loss or gradient is not finite leaves parameters, statistics, optimizer state and
    moving average unchanged. ``metrics["skipped"]`` is then 1, and ``metrics["nonfinite_run"]``
    counts such steps in a row.

    Args:
      experiment: what to train.
      mesh: of the devices. The batch, arrays [B, ...], is sharded over both axes of the mesh.

    Returns:
      The step. Its metrics are scalars: those of the objective, ``loss``, ``gradient_norm`` (before
      clipping, without frozen parameters), ``learning_rate``, ``skipped`` and ``nonfinite_run``.

    Raises:
      ConfigError: as ``fgmm.train.sharding.of_state``.
    """

    shardings = sharding.of_state(experiment, mesh)

    def step(state: TrainState, batch: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
        loss, metrics, statistics, gradients = _gradients_of_batch(
            experiment, mesh, shardings, state, batch
        )
        frozen = experiment.optimizer.frozen
        gradients = frozen.zeroed(gradients)
        statistics = frozen.statistics(state.statistics, statistics)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)

        limit = experiment.optimizer.clip_norm
        shrink = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12)) if limit else 1.0
        gradients = jax.tree.map(lambda g: g * shrink, gradients)
        updates, opt_state = experiment.optimizer.update(gradients, state.opt_state, state.params)
        rate = experiment.optimizer.schedule(state.step)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        updated = (params, statistics, opt_state)
        kept = (state.params, state.statistics, state.opt_state)
        params, statistics, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), updated, kept
        )
        average = experiment.optimizer.average(state.ema, params, state.step)
        average = jax.tree.map(lambda new, old: jnp.where(finite, new, old), average, state.ema)
        nonfinite = jnp.where(finite, 0, state.nonfinite + 1)
        metrics |= {
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": rate,
            "skipped": (~finite).astype(jnp.int32),
            "nonfinite_run": nonfinite,
        }
        new_state = TrainState(
            state.step + 1, nonfinite, params, statistics, opt_state, state.key, average
        )
        return new_state, metrics

    return jax.jit(
        step,
        in_shardings=(shardings, by_clip(mesh)),
        out_shardings=(shardings, everywhere(mesh)),
        donate_argnums=0,
    )


def _gradients_of_batch(
    experiment: Experiment,
    mesh: Mesh,
    shardings: TrainState,
    state: TrainState,
    batch: Mapping[str, Array],
) -> tuple[Array, Metrics, Any, Any]:
    """Loss, metrics, new statistics, gradient of the parameters."""
    augment_key, dropout_key = jax.random.split(state.step_key())
    (count,) = {len(array) for array in batch.values()}
    clips = (dict(batch), experiment.transforms.draw(augment_key, count))
    of_clips = functools.partial(_gradients_of_clips, experiment, mesh, shardings, state)
    parts = experiment.config.accumulate
    if parts == 1:
        return of_clips(clips, dropout_key)
    return accumulation.accumulate_gradients(
        of_clips, clips, dropout_key, micro_batches=parts, mesh=mesh
    )


def _gradients_of_clips(
    experiment: Experiment,
    mesh: Mesh,
    shardings: TrainState,
    state: TrainState,
    clips: tuple[dict[str, Array], dict[str, Array]],
    key: PRNGKeyArray,
) -> tuple[Array, Metrics, Any, Any]:
    """As ``_gradients_of_batch``, for the clips of a batch or of a micro-batch, with their drawn
    augmentation.
    """

    def embed(model_params, clips, key):
        params = sharding.gathered(model_params, shardings.params["model"])
        with experiment.optimizer.frozen.normalising():
            return experiment.apply(
                {"params": params, **state.statistics},
                experiment.transforms(*clips),
                train=True,
                mutable=list(state.statistics),
                rngs={"dropout": key},
            )

    objective = experiment.objective
    if mesh.size > 1:
        exchange = experiment.config.exchange
        objective = sharded(objective, mesh, replicated=(0, 3), exchange=exchange)

    of_draws = jax.random.fold_in(key, _DRAWS)

    def contrast(objective_params, embeddings):
        return objective(objective_params, embeddings, clips[0], state.step, key=of_draws)

    parts = experiment.config.grad_cache
    if parts > 1:
        return grad_cache.cache_gradients(
            embed, contrast, state.params, clips, key, micro_batches=parts, mesh=mesh
        )

    def loss_of(params):
        embeddings, statistics = embed(params["model"], clips, key)
        loss, metrics = contrast(params["objective"], embeddings)
        return loss, (metrics, statistics)

    (loss, (metrics, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
        state.params
    )
    return loss, metrics, statistics, gradients
