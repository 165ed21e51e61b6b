"""The tables of docs/measured/scaling.md and its figure, from the scaling model and its counts.

    python -m benchmarks.pages.scaling_tables --page=docs/measured/scaling.md \\
        --figure=docs/figures/scaling.png

``benchmarks/scaling.py`` writes the counts to ``docs/results/scaling.json``.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.pages import named_tables
from benchmarks.scaling_model import (
    MACHINES,
    TARGET,
    Machine,
    Options,
    Workload,
    balance,
    largest_within,
    loss_flops,
    step,
    vit_b16_flops,
)
from fgmm import command_line

COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)
VARIANTS = {
    "as it is": Options(),
    "ring exchange": Options(exchange="ring"),
    "fine space of D = 128": Options(width=128),
    "at most 2 phrases a caption": Options(phrases=2),
    "4 local embeddings pooled to one": Options(pooled=4),
    "bfloat16 and the kernel": Options(implementation="kernel"),
    "D = 128 and 4 pooled to one": Options(width=128, pooled=4),
    "64 candidates a clip": Options(candidates=64),
}
# The devices, the clips on each and the candidates of a clip for which FLOPs of a step are counted.
DEVICES, CLIPS, CANDIDATES = 64, 64, 64


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The tables of the page, in Markdown, by name.

    Args:
      results: what ``benchmarks/scaling.py`` writes: ``workloads``, and ``programs`` if measured.
    """
    workloads = [Workload(**entry) for entry in results["workloads"]]
    made = {
        "machines": _machines(),
        "workloads": _workloads(workloads),
        "options": _options(workloads),
        "candidates": _candidates(workloads[0]),
        "balance": _balance(workloads),
        "recipe": _recipe(workloads[0]),
        "target": _target(workloads),
    }
    for workload in workloads:
        made[workload.name] = _by_devices(workload, MACHINES["h100"])
    if "programs" in results:
        made["programs"] = _programs(results)
    return {f"scaling: {name}": table for name, table in made.items()}


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of which all columns but the first are numbers."""
    head, *body = rows
    return named_tables.markdown([head, ["---"] + ["---:"] * (len(head) - 1), *body])


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
    return _markdown([*rows, ["devices of a node", *nodes]])


def _workloads(workloads) -> str:
    rows = [["", *(w.name for w in workloads)]]
    rows.append(["GFLOP a clip, forward", *(f"{w.forward_flops / 1e9:.1f}" for w in workloads)])
    rows.append(["parameters", *(f"{w.parameters:,}" for w in workloads)])
    rows.append(["kept for the backward pass, GB a clip", *(_gb(w.kept_bytes) for w in workloads)])
    rows.append(["N", *(f"{w.N:,}" for w in workloads)])
    rows.append(["largest batch of an H100", *(_largest(w) for w in workloads)])
    return _markdown(rows)


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
    return _markdown(rows)


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
    return _markdown(rows)


def _candidates(s3d: Workload) -> str:
    frames = 12
    vit = dataclasses.replace(
        s3d, name="ViT-B/16 x 12 frames", forward_flops=vit_b16_flops(frames), N=196 * frames
    )
    rows = [["", s3d.name, vit.name]]
    encoders = [3 * w.forward_flops for w in (s3d, vit)]
    rows.append(["encoders, GFLOP a clip", *(f"{flops / 1e9:.1f}" for flops in encoders)])
    for title, candidates in (("all pairs", 0), (f"{CANDIDATES} candidates", CANDIDATES)):
        found = [loss_flops(w, DEVICES * CLIPS, candidates) for w in (s3d, vit)]
        rows.append([f"{title}, fine GFLOP a clip", *(f"{fine / 1e9:.2f}" for fine, _ in found)])
        if candidates:
            chosen = (f"{choice / 1e9:.4f}" for _, choice in found)
            rows.append([f"{title}, GFLOP of the choice", *chosen])
        shares = (
            (fine + choice) / (fine + choice + encoder)
            for (fine, choice), encoder in zip(found, encoders, strict=True)
        )
        rows.append([f"{title}, share of the step's FLOPs", *(f"{x:.2%}" for x in shares)])
    return _markdown(rows)


def _balance(workloads) -> str:
    rows = [["", "u · peak / network, FLOP a byte", *(f"b for {w.name}" for w in workloads)]]
    for machine in MACHINES.values():
        for n in (8, 1024) if machine.node < math.inf else (1024,):
            least = balance(machine, n)
            cells = (f"{math.ceil(least / w.N):,}" for w in workloads)
            rows.append([f"{machine.name}, {n:,} devices", f"{least:,.0f}", *cells])
    return _markdown(rows)


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
    return _markdown(rows)


def _target(workloads) -> str:
    rows = [["one device", *(w.name for w in workloads)]]
    for machine in (MACHINES["h100"], MACHINES["tpu_v5p"]):
        cells = []
        for workload in workloads:
            clips = workload.largest_batch(machine)
            cells.append(f"{step(machine, workload, 1, clips).share:.1%} at b = {clips}")
        rows.append([machine.name, *cells])
    return _markdown(rows)


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
    return f"{_markdown(rows)}\n\nMiB that a device receives in a step; {origin}."


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
    results = named_tables.fill_page("scaling.json", tables)
    if flags.FLAGS.figure:
        workloads = [Workload(**entry) for entry in results["workloads"]]
        draw(workloads, pathlib.Path(flags.FLAGS.figure))


if __name__ == "__main__":
    flags.DEFINE_string("page", None, "The Markdown file whose tables are filled in.")
    flags.DEFINE_string("figure", None, "A PNG file of the shares of a step.")
    command_line.run(main)
