"""The speed of a run and what it waits for, in metrics of every step.

=================== ==============================================================================
clips_per_second    over all devices
flops_per_second    model FLOPs, over all devices, from the second step on: see ``step_flops``
flop_utilisation    ``flops_per_second`` over the peak of the devices in bfloat16; only for devices
                    in ``PEAK_FLOPS``
data_wait           share of the time that the loop waited for a batch
seconds_left        at the speed of the last steps, without evaluations and saves; from the second
                    step on
device_peak_bytes   peak memory in use on the first device, if its backend reports it,
host_peak_bytes     otherwise the peak resident memory of the process
=================== ==============================================================================

With several processes, they are measured on process 0. Evaluations and saves are left out. Metrics
are read one step late: the time between two lines is that of one step, but not exactly of the step
of that line.
"""

import contextlib
import dataclasses
import functools
import re
import resource
import time
from collections.abc import Callable, Iterator

import jax
from jaxtyping import PRNGKeyArray

from fgmm.experiment.build import Experiment
from fgmm.losses.objective import Objective
from fgmm.models import counts

# The metrics of this module. They differ even between identical runs.
KEYS = (
    *("clips_per_second", "flops_per_second", "flop_utilisation", "data_wait", "seconds_left"),
    *("device_peak_bytes", "host_peak_bytes"),
)

# FLOP/s of dense bfloat16 matrix products with accumulation in float32, by the beginning of JAX's
# name of a device; the longest match applies. From NVIDIA's data sheets of A100, H100, H200 and
# B200, whose figures "with sparsity" are twice these, and the pages "TPU v4" to "TPU v6e" of
# Google's Cloud TPU documentation, where a chip is a device.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989.4e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835.5e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA H200 NVL": 835.5e12,
    "NVIDIA B200": 2250e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def peak_flops(device_kind: str) -> float | None:
    """The peak FLOP/s of a device in bfloat16; None if unknown, as for a CPU or a part of a GPU
    (MIG).
    """
    fitting = [kind for kind in PEAK_FLOPS if re.match(rf"{kind}\b", device_kind)]
    if not fitting or "MIG" in device_kind:
        return None
    return PEAK_FLOPS[max(fitting, key=len)]


def step_flops(experiment: Experiment) -> float:
    """Model FLOPs of a training step, over all devices; traces the forward pass.

    These are three times those of the forward pass, because the backward pass has two products for
    each of the forward pass (Chowdhery et al., "PaLM", arXiv 2204.02311, appendix B). A fully
    frozen encoder has no backward pass and counts once. Encoders, heads and the similarities of the
    loss count, as they are defined, whatever their implementation. Not counted are augmentation,
    the spectrogram, and what is computed again to save memory (``remat``, ``grad_cache``, blocks of
    the loss).
    """
    config = experiment.config
    clips = config.batch_size // config.accumulate
    state = experiment.abstract_state
    batch = {
        name: jax.ShapeDtypeStruct((clips, *array.shape[1:]), array.dtype)
        for name, array in experiment.blank_batch(1).items()
    }
    objective = _by_definition(experiment.objective)

    def forward(params, statistics, inputs, batch, key: PRNGKeyArray):
        embeddings, _ = experiment.model.apply(
            {"params": params["model"], **statistics},
            inputs,
            train=True,
            mutable=list(statistics),
            rngs={"dropout": key},
        )
        return objective(params["objective"], embeddings, batch, 0, key=key)[0]

    inputs = jax.eval_shape(experiment.transforms, batch)
    key = jax.eval_shape(lambda: jax.random.key(0))
    by_owner = counts.by_encoder(forward, state.params, state.statistics, inputs, batch, key)
    held = experiment.optimizer.frozen.mask(state.params)["model"]
    passes = {
        owner: 1 if owner and all(jax.tree.leaves(held.get(owner, False))) else 3
        for owner in by_owner
    }
    return config.accumulate * sum(passes[owner] * count for owner, count in by_owner.items())


def _by_definition(objective: Objective) -> Objective:
    """The same objective with dense similarities, which define them."""
    return Objective(
        {
            name: dataclasses.replace(entry, term=entry.term.with_implementation("dense"))
            for name, entry in objective.terms.items()
        }
    )


class Speed:
    """A clock of training steps.

    Args:
      batch_size: clips of a step, over all devices.
      total: steps of the whole run.
      flops: counts the model FLOPs of a step, over all devices. It is called once, after the second
        step. The first step compiles, so its rate means nothing, and its line should come early.
      peak: peak FLOP/s of all devices; None if unknown.
    """

    def __init__(self, batch_size: int, total: int, flops: Callable[[], float], peak: float | None):
        self._batch_size, self._total, self._peak = batch_size, total, peak
        self._count_flops = flops
        self._last, self._waited = time.perf_counter(), 0.0
        # Exponential moving averages of the seconds of a step, and of those waited.
        self._smooth, self._steps = (0.0, 0.0), 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A context whose time counts as waiting for a batch."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose time is not counted."""
        start = time.perf_counter()
        yield
        self._last += time.perf_counter() - start

    def finished(self, step: int) -> dict[str, float]:
        """The metrics of step number ``step``, which has just finished."""
        now = time.perf_counter()
        seconds, waited = max(now - self._last, 1e-9), self._waited
        self._last, self._waited = now, 0.0
        # The first step compiles, so it is left out.
        past = 0.9 if self._steps > 1 else 0.0
        self._smooth = tuple(
            past * old + (1 - past) * new
            for old, new in zip(self._smooth, (seconds, waited), strict=True)
        )
        self._steps += 1
        rates = self._rates(seconds, waited)
        if self._steps > 1:
            rates["seconds_left"] = (self._total - step) * self._smooth[0]
        return {**rates, **memory()}

    @functools.cached_property
    def _flops(self) -> float:
        with self.paused():
            return self._count_flops()

    def _rates(self, seconds: float, waited: float) -> dict[str, float]:
        rates = {"clips_per_second": self._batch_size / seconds}
        if self._steps > 1:
            rates["flops_per_second"] = self._flops / seconds
            if self._peak is not None:
                rates["flop_utilisation"] = rates["flops_per_second"] / self._peak
        return {**rates, "data_wait": min(waited / seconds, 1.0)}

    def __str__(self) -> str:
        """The speed of the last steps, as text."""
        if not self._steps:
            return "no step yet"
        ((where, peak),) = memory().items()
        in_use = f"{peak / 2**30:.1f} GiB {where.partition('_')[0]}"
        if self._steps == 1:
            return f"{self._smooth[0]:.0f} s with compilation, {in_use}"
        rates = self._rates(*self._smooth)
        work = f"{rates['flops_per_second'] / 1e9:,.1f} GFLOP/s"
        if "flop_utilisation" in rates:
            work = f"{rates['flop_utilisation']:.0%} of peak FLOP/s"
        speed = f"{rates['clips_per_second']:.0f} clips/s, {work}"
        return f"{speed}, {rates['data_wait']:.0%} data wait, {in_use}"


def memory() -> dict[str, int]:
    """The peak memory until now in bytes, as ``device_peak_bytes`` or ``host_peak_bytes``."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"device_peak_bytes": stats["peak_bytes_in_use"]}
    # Linux counts in KiB.
    return {"host_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
