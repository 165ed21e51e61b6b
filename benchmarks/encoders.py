"""Clips a second of the video and audio encoders, beside PyTorch's implementations of the same.

    python benchmarks/encoders.py --torch-python=PATH [--encoders=s3d,r2plus1d18] [--markdown]

What is timed, on B clips in memory: the forward pass as in evaluation, with running statistics, and
the forward and backward pass as in training, with batch statistics and the gradient of every
parameter. XLA's flags are those of the trainer. ``--torch-python`` is a Python that has PyTorch, in
an environment of its own; it runs ``encoders_torch.py``, each network with contiguous memory and
with channels last, and compiled as well with ``--torch-compile``. ``of PyTorch`` is how many times
as fast as the fastest of these an encoder is. All kinds take turns in every round, since machines
are noisy; the tables have medians. ``--page=docs/measured/encoders.md`` fills in the encoders that
were measured.

FLOPs are those of ``fgmm.models.counts``, two for each multiply-add; a backward pass counts twice a
forward pass. ``utilisation`` is their rate over the machine's, which is the rate of one product of
square matrices of the same dtype, the fastest of JAX's and PyTorch's in the same rounds.

On an accelerator, where a step takes milliseconds::

    python benchmarks/encoders.py --torch-python=PATH --dtype=bfloat16 --batch=32 --rounds=20
"""

import argparse
import functools
import math
import os
import pathlib
import statistics
import sys

from fgmm import command_line, xla_flags

xla_flags.configure()
# On an accelerator PyTorch needs room beside JAX.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from fgmm import components  # noqa: E402
from fgmm.models import counts  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks import timing  # noqa: E402
from benchmarks.pages import named_tables  # noqa: E402
from benchmarks.torch_process import TorchProcess  # noqa: E402

SQUARE = {"cpu": 2048}.get(jax.default_backend(), 8192)
# The versions of torchvision's residual networks, which users of PyTorch have.
OPTIONS = {name: {"version": 1} for name in ("tsm_resnet50", "resnet18", "resnet50")}
PASSES = {"forward": 1, "forward and backward": 3}


def parse_arguments():
    room = {name: "video" for name in components.names("models.video")}
    room |= {name: "audio" for name in components.names("models.audio")}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoders", default=",".join(room), help="names as in a config")
    parser.add_argument("--batch", type=int, default=4, help="B")
    parser.add_argument("--frames", type=int, default=16, help="of a clip")
    parser.add_argument("--size", type=int, default=112, help="rows and columns of a frame")
    parser.add_argument("--steps", type=int, default=200, help="of a spectrogram: 3.2 s of 16 ms")
    parser.add_argument("--bands", type=int, default=80, help="of a spectrogram")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-python", help="a Python with PyTorch")
    parser.add_argument("--torch-compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--markdown", action="store_true", help="rows as in the page")
    parser.add_argument("--page", type=pathlib.Path, help="a page whose rows are filled in")
    arguments = parser.parse_args()
    for name in arguments.encoders.split(","):
        if name not in room:
            parser.error(f"--encoders has {name!r}; allowed: {', '.join(room)}")
    arguments.encoders = {name: room[name] for name in arguments.encoders.split(",")}
    return arguments


def shape_of(arguments, room):
    """The shape of an encoder's input."""
    if room == "video":
        return (arguments.batch, arguments.frames, arguments.size, arguments.size, 3)
    return (arguments.batch, arguments.steps, arguments.bands)


def random_variables(encoder, x, mask):
    """Random variables in the shapes of a network's; its initialisation would take compiling."""
    shapes = jax.eval_shape(
        functools.partial(encoder.init, train=False), jax.random.key(0), x, mask
    )
    generator = np.random.default_rng(0)

    def fill(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.ones(leaf.shape, leaf.dtype)
        fan_in = max(1, math.prod(leaf.shape[:-1]))
        return jnp.asarray(generator.standard_normal(leaf.shape) / fan_in**0.5, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


class Jax:
    """An encoder of ours, both passes compiled.

    Attributes:
      parameters, output: their number, and the shape [B, *grid, E] of the last feature map.
      flops: of the forward pass on the whole batch.
      runs: by pass, a function that gives the seconds of one run.
    """

    def __init__(self, room, name, shape, dtype):
        entry = {"name": name, "dtype": dtype, **OPTIONS.get(name, {})}
        encoder = components.build(f"models.{room}", entry, key="--encoders")
        x, mask = jax.random.normal(jax.random.key(0), shape), jnp.ones(shape[0], bool)
        variables = random_variables(encoder, x, mask)
        params = variables["params"]
        statistics_ = {key: value for key, value in variables.items() if key != "params"}

        def forward(variables, x, mask):
            return encoder.apply(variables, x, mask, False)

        @functools.partial(jax.value_and_grad, has_aux=True)
        def both(params, statistics_, x, mask):
            given = {"params": params, **statistics_}
            tokens, updated = encoder.apply(given, x, mask, True, mutable=list(statistics_))
            return jnp.mean(jnp.square(tokens.local)), updated

        arguments = {
            "forward": (forward, (variables, x, mask)),
            "forward and backward": (both, (params, statistics_, x, mask)),
        }
        tokens = jax.eval_shape(forward, variables, x, mask)
        self.output = [shape[0], *tokens.grid, tokens.local.shape[-1]]
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        self.flops = counts.flops(forward, variables, x, mask)
        self.runs = {
            name: functools.partial(
                timing.seconds, jax.jit(function).lower(*given).compile(), *given
            )
            for name, (function, given) in arguments.items()
        }


def square(dtype):
    matrix = jnp.ones((SQUARE, SQUARE), dtype)
    return functools.partial(timing.seconds, jax.jit(jnp.matmul), matrix, matrix)


def fastest(run):
    """The seconds of the fastest of five runs."""
    return lambda: min(run() for _ in range(5))


def check_same(name, ours, theirs):
    """Stops if the networks differ in what can be seen from outside."""
    for what in ("parameters", "output"):
        if getattr(ours, what) != theirs[what]:
            sys.exit(
                f"{name}: {what} {getattr(ours, what)} here, {theirs[what]} in PyTorch: they are "
                "not the same network"
            )


def measured(arguments, room, name, torch):
    """Our encoder, and seconds of every round by pass and then by kind."""
    shape = shape_of(arguments, room)
    ours = Jax(room, name, shape, arguments.dtype)
    kinds = {(pass_, "ours"): run for pass_, run in ours.runs.items()} | {
        ("square", "jax"): fastest(square(arguments.dtype))
    }
    if torch:
        options = {"dtype": arguments.dtype, "compiled": arguments.torch_compile}
        theirs = torch.ask(prepare={"name": name, "shape": shape, **options})
        check_same(name, ours, theirs)
        for pass_ in PASSES:
            for way in theirs["ways"]:
                kinds[pass_, way] = functools.partial(torch.ask, run=f"{way}: {pass_}")
        kinds["square", "torch"] = fastest(functools.partial(torch.ask, run="square"))
    timing.in_turns(kinds, 1)
    return ours, timing.in_turns(kinds, arguments.rounds)


def report(arguments, name, ours, times):
    """The rows of an encoder, one for each pass and kind."""
    square_flops = 2 * SQUARE**3
    peak = max(square_flops / min(values) for (of, _), values in times.items() if of == "square")
    rows = []
    for pass_, factor in PASSES.items():
        by_kind = {kind: values for (of, kind), values in times.items() if of == pass_}
        ways = [kind for kind in by_kind if kind != "ours"]
        best = min(ways, key=lambda way: statistics.median(by_kind[way]), default=None)
        for kind, values in by_kind.items():
            rates = [arguments.batch / value for value in values]
            flops = factor * ours.flops / statistics.median(values)
            of_torch = f"{timing.ratio(by_kind[best], values):.2f}" if best else ""
            rows.append(
                [
                    name,
                    pass_,
                    "fgmm" if kind == "ours" else f"PyTorch, {kind}",
                    f"{statistics.median(rates):.2f}",
                    f"{min(rates):.2f} to {max(rates):.2f}",
                    f"{flops / 1e9:,.0f}",
                    f"{flops / peak:.0%}",
                    of_torch,
                ]
            )
    return rows, peak


HEADER = ["encoder", "pass", "by", "clips/s", "from, to", "GFLOP/s", "utilisation", "of PyTorch"]


def show(row, markdown):
    if markdown:
        return f"| {' | '.join(row)} |"
    widths = (14, 21, 33, 10, 20, 9, 12, 11)
    return "".join(
        cell.ljust(width) if i < 3 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )


def filled(page, rows):
    """The page with these rows in its table; they replace those of the same encoders."""
    table = page.partition("<!-- speed -->\n")[2].partition("<!-- end -->")[0]
    new = {row[0] for row in rows}
    kept = [line for line in table.splitlines() if line.startswith("|")]
    kept = [line for line in kept if line.split(" | ")[0].strip("| ") not in new]
    return named_tables.filled(page, {"speed": "\n".join(kept + [show(row, True) for row in rows])})


def main():
    arguments = parse_arguments()
    command_line.use_compilation_cache()
    torch = arguments.torch_python and TorchProcess(arguments.torch_python, "encoders_torch")
    timing.print_machine()
    print(
        f"B {arguments.batch}, {arguments.dtype}, {arguments.rounds} rounds; video "
        f"{arguments.frames} x {arguments.size} x {arguments.size}, audio {arguments.steps} x "
        f"{arguments.bands}\n"
    )
    print(show(HEADER, arguments.markdown))
    if arguments.markdown:
        print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    peaks = []
    for name, room in arguments.encoders.items():
        rows, peak = report(arguments, name, *measured(arguments, room, name, torch))
        peaks.append(peak)
        for row in rows:
            print(show(row, arguments.markdown), flush=True)
        if arguments.page:
            arguments.page.write_text(filled(arguments.page.read_text(), rows))
    print(
        f"\nsquare matrices of {SQUARE}: {min(peaks) / 1e9:,.0f} to {max(peaks) / 1e9:,.0f} GFLOP/s"
    )
    if torch:
        torch.close()


if __name__ == "__main__":
    main()
