"""What a training step takes on n accelerators, on paper: from FLOPs, bytes and data sheets.

    python -m fgmm.report.scaling --page=docs/scaling.md --figure=docs/figures/scaling.png

It fills the tables of the page from ``docs/results/scaling.json`` and draws the figure. No time
here was measured. Of n devices each has b clips, so that C = n·b are compared; a clip has N local
embeddings and J = K·P phrases, all of width D; u is the share of a device's peak that products
reach, the same for encoders and for the loss::

    encoder    (3 + r) · F · b / (u · peak)      F: forward FLOPs of a clip; r = 1 with grad_cache
    products   k · b·C·N·J · max(2·D / (u · peak of float32), 4 / memory)
    passes     b·C·N·J · 16 / memory
    exchange   received_bytes / network          fgmm/losses/sharded.py
    gradients  8 · parameters · (n − 1)/n / network

``blockwise`` makes k = 4 products of a block of a (fgmm/losses/blockwise.py), and 5 with the ring
exchange, which makes the forward pass anew (fgmm/losses/exchange.py). On an accelerator a block is
written to memory between products: each product writes or reads 4 bytes of an entry, and what comes
between them 16, for the pool reads a twice, and its derivative reads a and writes ∂a, each as one
fused pass. ``kernel`` keeps a in registers and makes 5 products of bfloat16.

Parts follow one another, but for the ring exchange, which overlaps with its products: of the two
the longer counts. Latency, reading, augmentation and the optimizer are left out.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.losses.sharded import received_bytes
from fgmm.report import page as pages

COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)
TARGET = 0.15
# Of a device's memory, that a program may use; and clips of a batch come in multiples of it.
_USABLE, _MULTIPLE = 0.9, 4
# Parameters, their gradient and two moments, float32.
_STATE_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Machine:
    """Data-sheet figures of an accelerator, a second; bytes of networks one way.

    Attributes:
      peak, peak_float32: FLOPs of products of bfloat16, and of float32 at JAX's default precision.
      memory, capacity: bytes of the device's memory, a second and in all.
      node: devices that the faster network joins.
      inside, outside: bytes a device receives within a node, and a node from others; rings run
        side by side, one through each connection.
      hop_inside, hop_outside: bytes through a single connection.
    """

    name: str
    peak: float
    peak_float32: float
    memory: float
    capacity: float
    node: int | float
    inside: float
    outside: float
    hop_inside: float
    hop_outside: float

    def network(self, devices: int, exchange: str = "gather") -> float:
        """Bytes a second that a device receives in a collective of so many devices."""
        one_ring = exchange == "ring"
        within = self.hop_inside if one_ring else self.inside
        if devices <= self.node:
            return within
        return min(within, self.hop_outside if one_ring else self.outside)


_H100 = Machine(
    *("H100", 989.4e12, 494.7e12, 3.35e12, 80e9),
    # NVLink, 900 GB/s both ways; 400 Gbit/s of network for each device of a node of 8.
    *(8, 450e9, 8 * 50e9, 450e9, 50e9),
)
MACHINES = {
    "h100": _H100,
    "h100_100g": dataclasses.replace(
        _H100, name="H100, 100 Gbit/s a node", outside=12.5e9, hop_outside=12.5e9
    ),
    # Six links of 100 GB/s one way; products of float32 are one pass in bfloat16.
    "tpu_v5p": Machine(
        *("TPU v5p", 459e12, 459e12, 2.765e12, 95e9), *(math.inf, 600e9, 600e9, 100e9, 100e9)
    ),
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a clip asks of a device; as counted by ``benchmarks/scaling.py --count``.

    Attributes:
      forward_flops: of encoders and heads, with all captions.
      parameters: of all.
      kept_bytes: that the forward pass keeps for the backward pass.
      N, K, P, D: embeddings of a clip, captions, phrases of a caption, width.
    """

    name: str
    forward_flops: float
    parameters: int
    kept_bytes: int
    N: int
    K: int
    P: int
    D: int

    def largest_batch(self, machine: Machine) -> int:
        """Clips that fit on a device."""
        room = _USABLE * machine.capacity - _STATE_BYTES * self.parameters
        return int(room / self.kept_bytes) // _MULTIPLE * _MULTIPLE


@dataclasses.dataclass(frozen=True)
class Options:
    """What moves the cost of the fine-grained loss.

    Attributes:
      exchange, implementation: as in a config; 'kernel' goes with embeddings in bfloat16.
      grad_cache: whether clips are embedded twice.
      width, phrases: D and P of the fine space instead of the workload's; 0 for those.
      pooled: how many local embeddings are pooled to one.
      utilisation: u.
    """

    exchange: str = "gather"
    implementation: str = "blockwise"
    grad_cache: bool = False
    width: int = 0
    phrases: int = 0
    pooled: int = 1
    utilisation: float = 0.4


class Step(NamedTuple):
    """Seconds of the parts of a step."""

    encoder: float
    products: float
    passes: float
    exchange: float
    coarse: float
    gradients: float
    overlaps: bool

    @property
    def fine(self) -> float:
        computing = self.products + self.passes
        return max(computing, self.exchange) if self.overlaps else computing + self.exchange

    @property
    def whole(self) -> float:
        return self.encoder + self.fine + self.coarse + self.gradients

    @property
    def share(self) -> float:
        """Of the fine-grained loss in the step."""
        return self.fine / self.whole

    @property
    def bound(self) -> str:
        """What the fine-grained loss waits for most."""
        longest = max(self.products, self.passes, self.exchange)
        return ("FLOPs", "memory", "exchange")[
            (self.products, self.passes, self.exchange).index(longest)
        ]


def step(
    machine: Machine, workload: Workload, devices: int, clips: int, options: Options = Options()
) -> Step:
    """The parts of a step.

    Args:
      devices: n.
      clips: b, of each device.
    """
    kernel, ring = options.implementation == "kernel", options.exchange == "ring"
    u, C = options.utilisation, devices * clips
    N, D = math.ceil(workload.N / options.pooled), options.width or workload.D
    J = workload.K * (options.phrases or workload.P)
    peak = machine.peak if kernel else machine.peak_float32
    entries = clips * C * N * J
    products = 5 if kernel or ring else 4
    through_memory = 0 if kernel else 4 / machine.memory
    moved = {"devices": devices, "clips": clips, "exchange": options.exchange}
    fine = received_bytes("mil_nce", N=N, P=J, D=D, itemsize=2 if kernel else 4, **moved)
    coarse = received_bytes("mil_nce", N=1, P=workload.K, D=workload.D, **moved)
    network = machine.network(devices, options.exchange)
    of_coarse = 3 * 2 * clips * C * workload.K * workload.D / (u * machine.peak_float32)
    passes = 3 + options.grad_cache
    return Step(
        encoder=passes * workload.forward_flops * clips / (u * machine.peak),
        products=products * entries * max(2 * D / (u * peak), through_memory),
        passes=entries * 4 * through_memory,
        exchange=fine / network,
        coarse=of_coarse + coarse / network,
        gradients=8 * workload.parameters * (devices - 1) / devices / machine.network(devices),
        overlaps=ring,
    )


def largest_within(
    machine: Machine, workload: Workload, clips: int, options: Options = Options()
) -> int:
    """The largest number of devices, a power of two to 65,536, at which the fine-grained loss takes
    no more than ``TARGET`` of the step; 0 for none."""
    within = [
        n
        for n in (2**power for power in range(17))
        if step(machine, workload, n, clips, options).share <= TARGET
    ]
    return max(within, default=0)


def balance(machine: Machine, devices: int, options: Options = Options()) -> float:
    """Clips times local embeddings, b·N, of a device below which the exchange takes longer than the
    products: with gather and float32 both are proportional to C·J·D."""
    return options.utilisation * machine.peak_float32 / machine.network(devices)


VARIANTS = {
    "as it is": Options(),
    "ring exchange": Options(exchange="ring"),
    "fine space of D = 128": Options(width=128),
    "at most 2 phrases a caption": Options(phrases=2),
    "4 local embeddings pooled to one": Options(pooled=4),
    "bfloat16 and the kernel": Options(implementation="kernel"),
    "D = 128 and 4 pooled to one": Options(width=128, pooled=4),
}


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables of a page, in Markdown, by name.

    Args:
      results: what ``benchmarks/scaling.py`` writes: ``workloads``, and ``programs`` if measured.
    """
    workloads = [Workload(**entry) for entry in results["workloads"]]
    made = {
        "machines": _machines(),
        "workloads": _workloads(workloads),
        "options": _options(workloads),
        "balance": _balance(workloads),
        "recipe": _recipe(workloads[0]),
        "target": _target(workloads),
    }
    for workload in workloads:
        made[workload.name] = _by_devices(workload, MACHINES["h100"])
    if "programs" in results:
        made["programs"] = _programs(results)
    return made


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of which all columns but the first are numbers."""
    head, *body = rows
    return pages.markdown([head, ["---"] + ["---:"] * (len(head) - 1), *body])


def _machines() -> str:
    rows = [["", *(machine.name for machine in MACHINES.values())]]
    columns = {
        "bfloat16 products, TFLOP/s": lambda m: m.peak / 1e12,
        "float32 products at default precision, TFLOP/s": lambda m: m.peak_float32 / 1e12,
        "memory, TB/s": lambda m: m.memory / 1e12,
        "memory, GB": lambda m: m.capacity / 1e9,
        "network to a device within a node, GB/s": lambda m: m.inside / 1e9,
        "network into a node, GB/s": lambda m: m.outside / 1e9,
        "one connection within a node, GB/s": lambda m: m.hop_inside / 1e9,
        "one connection between nodes, GB/s": lambda m: m.hop_outside / 1e9,
    }
    for title, value in columns.items():
        rows.append([title, *(f"{value(machine):g}" for machine in MACHINES.values())])
    nodes = ("all" if m.node == math.inf else f"{m.node}" for m in MACHINES.values())
    return markdown([*rows, ["devices of a node", *nodes]])


def _workloads(workloads) -> str:
    rows = [["", *(w.name for w in workloads)]]
    rows.append(["GFLOP a clip, forward", *(f"{w.forward_flops / 1e9:.1f}" for w in workloads)])
    rows.append(["parameters", *(f"{w.parameters:,}" for w in workloads)])
    rows.append(["kept for the backward pass, GB a clip", *(_gb(w.kept_bytes) for w in workloads)])
    rows.append(["N", *(f"{w.N:,}" for w in workloads)])
    rows.append(["largest batch of an H100", *(_largest(w) for w in workloads)])
    return markdown(rows)


def _gb(value: int) -> str:
    return f"{value / 1e9:.2f}"


def _largest(workload: Workload) -> str:
    return str(workload.largest_batch(MACHINES["h100"]))


def _by_devices(workload: Workload, machine: Machine) -> str:
    clips = workload.largest_batch(machine)
    titles = "encoder", "products", "passes", "exchange", "coarse", "gradients"
    rows = [["n", "batch", *(f"{t}, ms" for t in titles), "fine-grained loss", "bound by"]]
    for n in COUNTS:
        found = step(machine, workload, n, clips)
        times = (f"{1e3 * getattr(found, title):.2f}" for title in titles)
        rows.append([str(n), f"{n * clips:,}", *times, f"{found.share:.1%}", found.bound])
    return markdown(rows)


def _options(workloads) -> str:
    fast, slow = MACHINES["h100"], MACHINES["h100_100g"]
    shown = (("64", fast, 64), ("64, slow", slow, 64), ("1,024", fast, 1024))
    titles = (*(title for title, _, _ in shown), f"up to {TARGET:.0%}")
    rows = [["", *(f"{w.name}, {title}" for w in workloads for title in titles)]]
    for title, options in VARIANTS.items():
        cells = [title]
        for workload in workloads:
            clips = workload.largest_batch(fast)
            for _, machine, n in shown:
                cells.append(f"{step(machine, workload, n, clips, options).share:.1%}")
            cells.append(f"{largest_within(fast, workload, clips, options):,}")
        rows.append(cells)
    return markdown(rows)


def _balance(workloads) -> str:
    rows = [["", "u · peak / network, FLOP a byte", *(f"b for {w.name}" for w in workloads)]]
    for machine in MACHINES.values():
        for n in (8, 1024) if machine.node < math.inf else (1024,):
            least = balance(machine, n)
            cells = (f"{math.ceil(least / w.N):,}" for w in workloads)
            rows.append([f"{machine.name}, {n:,} devices", f"{least:,.0f}", *cells])
    return markdown(rows)


def _recipe(workload: Workload) -> str:
    batch = 8192
    columns = {
        "gather": (MACHINES["h100"], Options()),
        "ring": (MACHINES["h100"], Options(exchange="ring")),
        "gather, 100G": (MACHINES["h100_100g"], Options()),
        "ring, 100G": (MACHINES["h100_100g"], Options(exchange="ring")),
        "gather, TPU v5p": (MACHINES["tpu_v5p"], Options()),
    }
    rows = [["n", "b", *columns]]
    for n in (128, 256, 512, 1024):
        cells = []
        for machine, options in columns.values():
            found = step(machine, workload, n, batch // n, options)
            cells.append(f"{found.share:.0%}, {found.bound}")
        rows.append([f"{n:,}", str(batch // n), *cells])
    return markdown(rows)


def _target(workloads) -> str:
    rows = [["one device", *(w.name for w in workloads)]]
    for machine in (MACHINES["h100"], MACHINES["tpu_v5p"]):
        cells = []
        for workload in workloads:
            clips = workload.largest_batch(machine)
            cells.append(f"{step(machine, workload, 1, clips).share:.1%} at b = {clips}")
        rows.append([machine.name, *cells])
    return markdown(rows)


def _programs(results) -> str:
    kinds = ("all-gather", "reduce-scatter", "all-to-all", "collective-permute", "all-reduce")
    rows = [["devices", *kinds, "of the loss", "/ formula", "loss GFLOP", "/ formula"]]
    for row in results["programs"]:
        level = "coarse and fine" if row["fine"] else "coarse alone"
        label = f"{row['devices']}, {level}, {row['exchange']}, fsdp={row['fsdp']}"
        cells = [f"{row['received'].get(kind, 0) / 2**20:.2f}" for kind in kinds]
        cells.append(f"{row['loss_bytes'] / 2**20:.3f}")
        cells.append(f"{row['loss_bytes'] / row['loss_bytes_by_formula']:.4f}")
        cells.append(f"{row['loss_flops'] / 1e9:.3f}")
        cells.append(f"{row['loss_flops'] / row['loss_flops_by_formula']:.4f}")
        rows.append([label, *cells])
    made = results["programs_made"]
    origin = f"commit {made['commit']}; {made['cpu']}, jax {made['jax']}; {made['date']}"
    return f"{markdown(rows)}\n\nMiB that a device receives in a step; {origin}."


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with its tables made anew; the place of each is named ``scaling:`` and its name.

    Raises:
      ConfigError: the page has no place for one of them.
    """
    return pages.filled(page, {f"scaling: {name}": table for name, table in made.items()})


_PARTS = {
    "encoders": ("#9db8d9", lambda found: found.encoder),
    "gradients": ("#6b7280", lambda found: found.gradients),
    "coarse term": ("#cbd5c0", lambda found: found.coarse),
    "fine-grained: exchange": ("#7c2d12", lambda found: found.exchange),
    "fine-grained: products and passes": ("#c2410c", lambda found: found.products + found.passes),
}


def draw(workloads: Sequence[Workload], output: pathlib.Path) -> None:
    """Writes the figure of each part's share of the step by the number of devices."""
    machines = MACHINES["h100"], MACHINES["h100_100g"]
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(workloads), len(machines), sharex=True, sharey=True, squeeze=False)
    for row, workload in zip(grid, workloads, strict=True):
        clips = workload.largest_batch(MACHINES["h100"])
        for axes, machine in zip(row, machines, strict=True):
            steps = [step(machine, workload, n, clips) for n in COUNTS]
            shares = [[part(s) / s.whole for s in steps] for _, part in _PARTS.values()]
            colours = [colour for colour, _ in _PARTS.values()]
            axes.stackplot(np.log2(COUNTS), shares, colors=colours, labels=list(_PARTS))
            axes.axhline(1 - TARGET, color="#1f2430", lw=0.8, ls="--")
            axes.set_title(f"{workload.name}, b = {clips}; {machine.name}", fontsize=10)
            axes.set_xticks(np.log2(COUNTS), [f"{n:,}" for n in COUNTS])
            axes.set(ylim=(0, 1), xlim=(np.log2(COUNTS[0]), np.log2(COUNTS[-1])))
        row[0].set_ylabel("share of the step (modelled)")
    for axes in grid[-1]:
        axes.set_xlabel("accelerators")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


def main(argv: list[str]) -> None:
    del argv
    path = pathlib.Path(command_line.required("page"))
    if not path.exists():
        raise ConfigError(f"--page={path}: there is no such file")
    results = json.loads((path.parent / "results" / "scaling.json").read_text())
    made = tables(results)
    path.write_text(filled(path.read_text(), made))
    print(f"{len(made)} tables of {path} filled in")
    if flags.FLAGS.figure:
        workloads = [Workload(**entry) for entry in results["workloads"]]
        draw(workloads, pathlib.Path(flags.FLAGS.figure))


if __name__ == "__main__":
    flags.DEFINE_string("page", None, "The Markdown file whose tables are filled in.")
    flags.DEFINE_string("figure", None, "A PNG file of the shares of a step.")
    command_line.run(main)
