"""What benchmarks of speed share. Needs JAX alone."""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of one run, until its results are there."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def in_turns(
    kinds: Mapping[Hashable, Callable[[], float]], rounds: int
) -> dict[Hashable, list[float]]:
    """The seconds of each kind in every round. Kinds take turns, since machines are noisy."""
    times = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, run in kinds.items():
            times[name].append(run())
    return times


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """The median over rounds of these / those: how many times faster those are."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def print_machine() -> None:
    """Prints the devices, the cores, and the flags of XLA."""
    device = jax.devices()[0]
    print(
        f"{jax.device_count()} x {device.device_kind}, {os.cpu_count()} cores, jax", jax.__version__
    )
    print("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") or "none")
