"""Time and memory of the fine-grained loss: dense, blockwise, kernel, PyTorch, and their bounds.

    python benchmarks/loss.py [--batches=16,32,64,128,256] [--torch-python=PATH]

What is timed is the value and the gradient of ``info_nce`` on ``clip_similarity`` with respect to
both sides, on random unit vectors of B clips and as many captions. The limit is the time of the
three products that cannot be avoided: of x and y, and of their product's gradient with each of
them. They are timed for groups of clips, whose results stay in cache: that is faster than in one
piece. On an accelerator groups are larger, and the three products of a group are awaited together.
All kinds take turns in every round, since machines are noisy; the table has medians. Before each
timing the same kind runs once untimed, because a kind that uses gigabytes slows down the next one.

TFLOP/s are those of these three products, whatever a kind computes beside or instead of them.
``of square`` is their rate over that of one product of square matrices of the same dtype, the
fastest product there is. The kernel is timed where it can run: pools softmax and logsumexp,
--direction y_to_x, --dtype bfloat16, on a Hopper device. It takes about 512 clips to fill one::

    python benchmarks/loss.py --dtype=bfloat16 --batches=512

``--valid=0.4`` also times blockwise with masks that make this share of phrases valid, and with
masks that make all valid. A line below the table has the median ratio of their times, that of their
CPU times, which are more reliable on a shared machine, and the seconds to compile.

``--torch-python`` is a Python that has PyTorch, in an environment of its own; it runs
``loss_torch.py``. A kind whose tensor a would take more than ``--dense-gib`` is left out.
Needs JAX and jaxtyping beside this package's losses.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp

from fgmm.losses import clip_similarity, info_nce
from fgmm.losses.dense import POOLS
from fgmm.losses.kernels import hopper
from fgmm.losses.pools import Pooling
from fgmm.losses.similarity import DIRECTIONS, IMPLEMENTATIONS, choose_implementation

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks import timing
from benchmarks.timing import ratio
from benchmarks.torch_process import TorchProcess

# Clips whose products are timed together for the limit, and rows of a square matrix.
GROUP, SQUARE = {"cpu": (8, 2048)}.get(jax.default_backend(), (64, 8192))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", default="16,32,64,128,256", help="values of B = C")
    parser.add_argument("--N", type=int, default=196, help="local embeddings of a clip")
    parser.add_argument("--P", type=int, default=16, help="phrases of a caption")
    parser.add_argument("--D", type=int, default=256, help="embedding width")
    parser.add_argument("--pool", choices=POOLS, default="softmax")
    parser.add_argument("--direction", choices=DIRECTIONS, default="y_to_x")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--masked", action="store_true", help="give masks, all of them true")
    parser.add_argument(
        "--valid", type=float, help="share of valid phrases, for what padding costs"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dense-gib", type=float, default=1.0, help="largest a for dense kinds")
    parser.add_argument("--torch-python", help="a Python with PyTorch")
    return parser.parse_args()


class Jax:
    """One implementation of the loss, compiled."""

    def __init__(self, implementation, arguments, sides):
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def loss(x, y, x_mask, y_mask):
            options = {"pool": arguments.pool, "direction": arguments.direction}
            s = clip_similarity(
                *(x, y, x_mask, y_mask),
                temperature=0.1 if arguments.pool in ("softmax", "logsumexp") else None,
                implementation=implementation,
                **options,
            )
            return info_nce(s, temperature=0.07)

        self._sides, self.core_seconds = sides, []
        start = time.perf_counter()
        self._compiled = jax.jit(loss).lower(*sides).compile()
        self.compile_seconds = time.perf_counter() - start
        self.mebibytes = self._compiled.memory_analysis().temp_size_in_bytes / 2**20

    def __call__(self) -> float:
        """Seconds of one run."""
        start, of_cores = time.perf_counter(), time.process_time()
        jax.block_until_ready(self._compiled(*self._sides))
        self.core_seconds.append(time.process_time() - of_cores)
        return time.perf_counter() - start


class Limit:
    """The three products, for groups of clips; or the first ``products`` of them."""

    def __init__(self, x, y, products=3):
        B, N, D = x.shape
        group = min(B, GROUP)
        self._repeats = B / group
        rows, columns = x[:group].reshape(group * N, D), y.reshape(-1, D)
        da = jnp.ones((len(rows), len(columns)), x.dtype)
        product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
        self._products = [
            (jax.jit(functools.partial(product, "nd,pd->np")), (rows, columns)),
            (jax.jit(functools.partial(product, "np,pd->nd")), (da, columns)),
            (jax.jit(functools.partial(product, "nd,np->dp")), (rows, da)),
        ][:products]

    def __call__(self) -> float:
        start = time.perf_counter()
        for _ in range(round(self._repeats)):
            results = [self._started(product, operands) for product, operands in self._products]
        jax.block_until_ready(results)
        return (time.perf_counter() - start) * self._repeats / round(self._repeats)

    @staticmethod
    def _started(product, operands):
        """The result of a product. It is awaited on a CPU, which might work on two at a time."""
        result = product(*operands)
        return jax.block_until_ready(result) if jax.default_backend() == "cpu" else result


def unit_vectors(seed, shape, dtype):
    vectors = jax.random.normal(jax.random.key(seed), shape)
    return (vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)).astype(dtype)


def kinds_of(arguments, B, torch):
    """What is timed at a batch size, by name."""
    N, P, D = arguments.N, arguments.P, arguments.D
    x, y = unit_vectors(0, (B, N, D), arguments.dtype), unit_vectors(1, (B, P, D), arguments.dtype)
    masks = jnp.ones((B, N), bool), jnp.ones((B, P), bool)
    sides = (x, y, *(masks if arguments.masked else (None, None)))
    dense_fits = arguments.dense_gib * 2**30 >= 4 * B * B * N * P
    matrix = jnp.ones((SQUARE, SQUARE), x.dtype)
    square = functools.partial(timing.seconds, jax.jit(jnp.matmul), matrix, matrix)
    kinds = {"square, jax": square, "three products, jax": Limit(x, y)}
    direction = arguments.direction
    weights = None if direction == "y_to_x" else "mean"
    pooling = Pooling(arguments.pool, direction != "x_to_y", weights, None)
    default = choose_implementation(x, y)
    fits = {
        "dense": dense_fits,
        "blockwise": True,
        "kernel": hopper.unsupported(x, y, pooling) is None and hopper.device_fits(),
    }
    for implementation in IMPLEMENTATIONS:
        if fits[implementation]:
            name = implementation + " (default)" * (implementation == default)
            kinds[name] = Jax(implementation, arguments, sides)
    if arguments.valid is not None:
        phrases = jax.random.permutation(jax.random.key(2), B * P).reshape(B, P)
        for share in (1.0, arguments.valid):
            some = x, y, masks[0], phrases < round(share * B * P)
            kinds[f"blockwise, {share:.0%} valid"] = Jax("blockwise", arguments, some)
    if torch:
        shape = {"B": B, "N": N, "P": P, "D": D, "masked": arguments.masked}
        for name in torch.ask(prepare={**shape, "with_dense": dense_fits}):
            kinds[f"{name}, torch"] = functools.partial(torch.ask, run=name)
    return kinds


def main():
    arguments = parse_arguments()
    torch = None
    if arguments.torch_python:
        if (arguments.pool, arguments.direction) != ("softmax", "y_to_x"):
            sys.exit("--torch-python times pool softmax in direction y_to_x alone")
        if arguments.dtype != "float32":
            sys.exit("--torch-python times float32 alone")
        torch = TorchProcess(arguments.torch_python, "loss_torch")
    timing.print_machine()
    print(
        f"N {arguments.N}, P {arguments.P}, D {arguments.D}, {arguments.dtype}, {arguments.pool}, "
        f"{arguments.direction}{', masked' if arguments.masked else ''}"
    )
    header = f"{'B = C':>6} {'kind':22}{'ms':>9}{'(min-max)':>18}{'of limit':>10}{'of dense':>10}"
    print(header + f"{'TFLOP/s':>10}{'of square':>11}{'temporary MiB':>15}")
    for B in map(int, arguments.batches.split(",")):
        kinds = kinds_of(arguments, B, torch)
        for kind in kinds.values():
            kind()
        times = {name: [] for name in kinds}
        for _ in range(arguments.rounds):
            for name, kind in kinds.items():
                kind()
                times[name].append(kind())
        dense_times = next((times[name] for name in times if name.split()[0] == "dense"), None)
        for name, values in times.items():
            own = "three products, " + ("torch" if name.endswith("torch") else "jax")
            ms = [1000 * value for value in values]
            spread = f"({min(ms):.1f}-{max(ms):.1f})"
            square = name.startswith("square")
            dense = "" if square or not dense_times else f"{ratio(dense_times, values):.2f}"
            memory = getattr(kinds[name], "mebibytes", None)
            limit = "" if square else f"{ratio(times[own], values):.2f}"
            flops = 2 * SQUARE**3 if square else 6 * B * B * arguments.N * arguments.P * arguments.D
            share = flops / (2 * SQUARE**3) * ratio(times["square, jax"], values)
            print(
                f"{B:6} {name:22}{statistics.median(ms):9.1f}{spread:>18}{limit:>10}{dense:>10}"
                f"{flops / statistics.median(values) / 1e12:10.3f}{share:11.2f}"
                + (f"{memory:15.1f}" if memory is not None else ""),
                flush=True,
            )
        if arguments.valid is not None:
            plain, whole, part = (name for name in kinds if name.startswith("blockwise"))
            cores = ratio(kinds[part].core_seconds, kinds[whole].core_seconds)
            print(
                f"{B:6} {part} takes {ratio(times[part], times[whole]):.2f} of {whole}, "
                f"{cores:.2f} of the cores' time; compiled in {kinds[part].compile_seconds:.1f} s, "
                f"without masks in {kinds[plain].compile_seconds:.1f} s"
            )
    if torch:
        torch.close()


if __name__ == "__main__":
    main()
