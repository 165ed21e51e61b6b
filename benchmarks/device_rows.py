"""The rows of ``device.py``: each is a generator of what it finds.

The process reads names of rows from its standard input. It writes a line of JSON for everything
that a row yields, and ``end`` after it. An error of a row is one of these things.
"""

import contextlib
import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from fgmm.losses import clip_similarity, info_nce
from fgmm.losses.kernels import hopper

DRY_RUN = "--dry_run" in sys.argv
# B, N, P, D of comparisons with float64, and of what is timed.
COMPARED = (4, 8, 3, 16) if DRY_RUN else (32, 196, 16, 256)
TIMED = (8, 8, 3, 16) if DRY_RUN else (512, 196, 16, 256)
ROUNDS = 1 if DRY_RUN else 5
# The relative error that is allowed in bfloat16, of a gradient by its norm.
ALLOWED = 0.01

Rows = Iterator[dict[str, Any]]


def device() -> Rows:
    """The device, its peak by the data sheet, and the rate of a product of square matrices."""
    chosen = jax.devices()[0]
    yield {
        "kind": chosen.device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "memory_gib": _gib((chosen.memory_stats() or {}).get("bytes_limit")),
        "peak_tflops": _peak() / 1e12 if _peak() else "unknown",
    }
    size = 64 if DRY_RUN else 8192
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    seconds = _seconds(jax.jit(jnp.matmul), matrix, matrix)
    yield {"square_tflops": 2 * size**3 / seconds / 1e12}


def against_float64(implementation: str) -> Rows:
    """Relative errors of the loss and its gradients at bfloat16 embeddings, against float64."""
    reason = _refusal(implementation)
    if reason:
        yield {"left_out": reason}
        return
    x, y = _sides(*COMPARED)
    masks = [jax.random.uniform(jax.random.key(2), v.shape[:2]) < 0.8 for v in (x, y)]
    masks = [mask.at[:, 0].set(True) for mask in masks]
    worst = 0.0
    for pool in hopper.POOLS[: 1 if DRY_RUN else None]:
        narrow = jax.jit(jax.value_and_grad(_loss(implementation, pool, masks), (0, 1, 2)))
        with jax.enable_x64(True):
            exact = jax.jit(jax.value_and_grad(_loss("dense", pool, masks), (0, 1, 2)))
        for temperature in (0.02, 0.1, 1.0):
            value, gradients = narrow(x, y, jnp.float32(temperature))
            with jax.enable_x64(True):
                wide = (jnp.float64(v) for v in (x, y, temperature))
                wanted, wanted_gradients = jax.device_get(exact(*wide))
            errors = {"loss": abs(float(value) / float(wanted) - 1)}
            names = zip(("x", "y", "temperature"), gradients, wanted_gradients, strict=True)
            for name, gradient, right in names:
                difference = np.float64(gradient) - right
                errors[name] = float(np.linalg.norm(difference) / np.linalg.norm(right))
            worst = max(worst, *errors.values())
            yield {f"{pool}, {temperature}": errors}
    yield {"worst": worst, "right": bool(worst < ALLOWED)}


def loss(implementation: str) -> Rows:
    """Time of the loss, and of the plain products that it has to compute, in turns."""
    reason = _refusal(implementation)
    if reason:
        yield {"left_out": reason}
        return
    from benchmarks.loss import Limit

    B, N, P, D = TIMED
    x, y = _sides(*TIMED)
    temperature = jnp.float32(0.1)
    forward = _loss(implementation, "softmax", (None, None))
    both = jax.value_and_grad(forward, (0, 1))
    of_product = 2 * B * B * N * P * D
    yield {"B": B, "N": N, "P": P, "D": D}
    for name, function, products in (("forward", forward, 1), ("both", both, 3)):
        compiled = jax.jit(function).lower(x, y, temperature).compile()
        limit = Limit(x, y, products)
        limit(), jax.block_until_ready(compiled(x, y, temperature))
        times, limits = [], []
        for _ in range(ROUNDS):
            limits.append(limit())
            times.append(timing.seconds(compiled, x, y, temperature))
        seconds, rate = statistics.median(times), products * of_product / statistics.median(times)
        yield {
            f"{name}_ms": 1e3 * seconds,
            f"{name}_product_ms": 1e3 * statistics.median(limits),
            f"{name}_of_product_rate": statistics.median(limits) / seconds,
            f"{name}_tflops": rate / 1e12,
            f"{name}_of_peak": rate / _peak() if _peak() else "unknown",
            f"{name}_temporary_gib": _gib(compiled.memory_analysis().temp_size_in_bytes),
        }


def training_step(name: str) -> Rows:
    """Time and FLOP utilisation of a step on a random batch.

    FLOPs are those that a run counts, ``fgmm.train.speed.step_flops``.
    """
    import optax

    from fgmm.train import speed

    for clips in _BATCHES[name]:
        run = _run(name, clips)
        try:
            state, metrics = run.steps(run.state(), 2)
            times = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                state, metrics = run.steps(state, 2)
                jax.block_until_ready(metrics)
                times.append((time.perf_counter() - start) / 2)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            yield {f"{clips}_clips": "does not fit into the device's memory"}
            continue
        seconds, flops = statistics.median(times), speed.step_flops(run.experiment)
        yield {
            "clips": clips,
            "step_ms": 1e3 * seconds,
            "clips_per_second": clips / seconds,
            "step_tflop": flops / 1e12,
            "tflops": flops / seconds / 1e12,
            "utilisation": flops / seconds / _peak() if _peak() else "unknown: so is the peak",
            "loss": float(metrics["loss"]),
            "parameters_norm": float(optax.tree.norm(state.params)),
            "used_gib": _gib((jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")),
        }
        return


def resume() -> Rows:
    """Four steps in one go, and two steps, a checkpoint and two steps from it: how far apart."""
    from fgmm.train import sharding
    from fgmm.train.checkpoint import Checkpoints

    run = _run("quickstart", _BATCHES["quickstart"][-1])
    experiment = run.experiment
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        state, _ = run.steps(run.state(), 2)
        start = time.perf_counter()
        checkpoints = Checkpoints(folder, experiment, experiment.config.checkpoint)
        checkpoints.save(2, state, {"next_step": 2})
        checkpoints.close()
        yield {"save_seconds": time.perf_counter() - start}
        whole = jax.device_get(run.steps(state, 2)[0].params)
        start = time.perf_counter()
        again = Checkpoints(folder, experiment, experiment.config.checkpoint)
        restored, position = again.restore(sharding.of_state(experiment, run.mesh))
        again.close()
        yield {"restore_seconds": time.perf_counter() - start, "position": position["next_step"]}
        resumed = jax.device_get(run.steps(restored, 2)[0].params)
    differences = jax.tree.leaves(
        jax.tree.map(lambda a, b: float(np.max(np.abs(a - b), initial=0)), whole, resumed)
    )
    largest = max(differences)
    # Sums of a GPU may have another order in every run.
    yield {"largest_difference": largest, "identical": largest == 0, "right": largest < 1e-2}


def _refusal(implementation):
    if implementation == "kernel" and not hopper.device_fits():
        return f"the kernel supports {hopper.SUPPORTED}; here is {jax.devices()[0].device_kind}"
    return ""


def _loss(implementation, pool, masks):
    def loss(x, y, temperature):
        S = clip_similarity(
            *(x, y, *masks), pool=pool, temperature=temperature, implementation=implementation
        )
        return info_nce(S, temperature=0.07)

    return loss


def _sides(B, N, P, D):
    """Unit vectors in bfloat16; each phrase is near a local embedding of its clip."""
    x, y = (jax.random.normal(jax.random.key(k), (B, n, D)) for k, n in enumerate((N, P)))
    sides = x, y + 0.5 * x[:, :P]
    return [(v / jnp.linalg.norm(v, axis=-1, keepdims=True)).astype(jnp.bfloat16) for v in sides]


# Clips of a step, the first that fits.
_BATCHES = {"quickstart": (32,), "s3d": (32, 8), "vit_b": (32, 8)}
if DRY_RUN:
    _BATCHES = dict.fromkeys(_BATCHES, (2,))


def _experiment(name, clips):
    """The experiment whose step is timed, all of its activations in bfloat16."""
    from benchmarks import scaling
    from configs import quickstart
    from fgmm import components
    from fgmm.experiment import build as experiments

    if DRY_RUN:
        return scaling.experiment_of(scaling.SMALL, batch=clips, frames=2, size=32)
    if name == "quickstart":
        config = quickstart.get_config()
        config.batch_size = clips
        for modality in ("video", "audio", "text"):
            config.model[modality].dtype = "bfloat16"
        config.model.spaces.joint.dtype = "bfloat16"
        return experiments.build(components.complete(config))
    if name == "s3d":
        sizes = {"frames": scaling.LARGE_FRAMES, "size": scaling.LARGE_SIZE}
        return scaling.experiment_of(scaling.LARGE["S3D"], batch=clips, dtype="bfloat16", **sizes)
    encoder = {"name": "clip", "dtype": "bfloat16"}
    return scaling.experiment_of(encoder, batch=clips, frames=12, size=224, dtype="bfloat16")


def _run(name, clips):
    """Steps of an experiment, compiled once for all rows; in a dry run all have the same."""
    return _compiled_once("quickstart" if DRY_RUN else name, clips)


@functools.cache
def _compiled_once(name, clips):
    return _Run(_experiment(name, clips))


class _Run:
    """Steps of an experiment on one batch."""

    def __init__(self, experiment):
        from benchmarks.scaling import random_batch
        from fgmm.train import mesh as meshes
        from fgmm.train.step import make_train_step

        self.mesh = meshes.make_mesh(jax.devices()[:1])
        self.experiment = experiment
        self._batch = meshes.put_batch(
            random_batch(experiment, experiment.config.batch_size), self.mesh
        )
        self._step = make_train_step(experiment, self.mesh)
        self._everywhere = meshes.everywhere(self.mesh)

    def state(self):
        return jax.jit(self.experiment.init, out_shardings=self._everywhere)(0)

    def steps(self, state, count):
        for _ in range(count):
            state, metrics = self._step(state, self._batch)
        return state, metrics


def _seconds(function: Callable, *arguments: Any) -> float:
    jax.block_until_ready(function(*arguments))
    return statistics.median(timing.seconds(function, *arguments) for _ in range(ROUNDS))


@functools.cache
def _peak() -> float | None:
    """The device's peak FLOP/s in bfloat16; None if it is unknown, or packages are missing that
    rows of the loss do not need.
    """
    try:
        from fgmm.train import speed
    except ImportError:
        return None
    return speed.peak_flops(jax.devices()[0].device_kind)


def _gib(size: int | None) -> float | str:
    return "unknown" if size is None else size / 2**30


FUNCTIONS = {
    "device": device,
    "blockwise_against_float64": functools.partial(against_float64, "blockwise"),
    "kernel_against_float64": functools.partial(against_float64, "kernel"),
    "loss_kernel": functools.partial(loss, "kernel"),
    "loss_blockwise": functools.partial(loss, "blockwise"),
    "loss_dense": functools.partial(loss, "dense"),
    "step_quickstart": functools.partial(training_step, "quickstart"),
    "resume": resume,
    "step_s3d": functools.partial(training_step, "s3d"),
    "step_vit_b": functools.partial(training_step, "vit_b"),
}


def main():
    # Rows of the loss run without the packages that this module imports.
    with contextlib.suppress(ImportError):
        from fgmm import xla_flags

        xla_flags.configure()
    # Libraries print to standard error from here on, so their lines are not taken for results.
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            with contextlib.closing(FUNCTIONS[line.strip()]()) as found:
                for part in found:
                    results.write(json.dumps(part) + "\n")
        except Exception as error:  # The next row may succeed.
            message = " ".join(str(error).split())[:500]
            results.write(json.dumps({"error": f"{type(error).__name__}: {message}"}) + "\n")
        results.write("end\n")


if __name__ == "__main__":
    main()
