"""Search in a bank of local embeddings: rows a second, beside those of the plain product.

    python benchmarks/bank.py [--rows=1000000] [--local=32] [--width=64] [--folder=DIR]

The bank is written to the folder, in blocks of random unit vectors in float16, unless a bank of
that shape is there already. Then all searches run in turn for ``--rounds`` rounds, after one round
that compiles and does not count; medians are printed. "product" reads the same rows and multiplies
them with the phrases of the query, and does nothing else: no search that looks at every local
embedding is faster. The last column is how much the peak memory of a process grows that opens the
bank and does only that search, once.

    exact              every row by the fine score
    coarse             every row by the product of coarse embeddings
    coarse, then fine  the best ``--shortlist`` of these by the fine score
"""

import argparse
import functools
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from fgmm.eval.bank import Bank
from fgmm.losses import clip_similarity
from fgmm.models.embeddings import Embeddings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from benchmarks import timing

_BLOCK = 4096


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="M")
    parser.add_argument("--local", type=int, default=32, help="N, local embeddings of a row")
    parser.add_argument("--width", type=int, default=64, help="D")
    parser.add_argument("--phrases", type=int, default=8, help="P, of a query")
    parser.add_argument("--queries", type=int, default=1, help="searched for at a time")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--shortlist", type=int, default=200)
    parser.add_argument("--pool", default="softmax")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="of the bank; by default one that is removed")
    parser.add_argument("--alone", help="a search; prints only how much the peak memory grows")
    return parser.parse_args()


def unit(rng, *shape):
    """Random vectors of unit length, float32."""
    x = rng.standard_normal(shape, np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class RandomRows:
    """An array of random unit vectors that is made as it is read."""

    def __init__(self, *shape):
        self.shape = shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return unit(np.random.default_rng(rows.start), rows.stop - rows.start, *self.shape[1:])


def opened(folder: pathlib.Path, rows: int, local: int, width: int) -> Bank:
    """The bank of a folder, which is written if there is none of this shape."""
    shape = (rows, local, width)
    if not (folder / "bank.json").exists() or Bank.open(folder).local.shape != shape:
        print(f"writing {rows * local * width * 2 / 2**30:.1f} GiB to {folder}", flush=True)
        coarse, mask = unit(np.random.default_rng(0), rows, width), np.ones((rows, local), bool)
        Bank(coarse, RandomRows(*shape), mask, [str(row) for row in range(rows)]).write(folder)
    return Bank.open(folder)


def plain_product(bank: Bank, queries: Embeddings) -> None:
    """Reads all local embeddings and multiplies them with all phrases."""
    phrases = jnp.asarray(queries.local.reshape(-1, queries.local.shape[-1]))
    waiting = None
    for start in range(0, len(bank), _BLOCK):
        block = np.asarray(bank.local[start : start + _BLOCK])
        product = _product(jnp.asarray(block), phrases)
        if waiting is not None:
            waiting.block_until_ready()
        waiting = product
    waiting.block_until_ready()


@jax.jit
def _product(block, phrases):
    # The result is small, but XLA can leave out no part of the product.
    return jnp.max(jnp.einsum("mnd,qd->mnq", block.astype(jnp.float32), phrases))


def peak_gib() -> float:
    """The peak resident memory of this process in GiB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Prints the table."""
    given = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(given.folder or temporary)
        bank = opened(folder, given.rows, given.local, given.width)
        rng = np.random.default_rng(1)
        local = unit(rng, given.queries, given.phrases, given.width)
        mask = np.ones(local.shape[:2], bool)
        queries = Embeddings(local, mask, unit(rng, given.queries, given.width))

        @jax.jit
        def score(items, queries):
            x, y = (v.local.astype(jnp.float32) for v in (items, queries))
            options = {"pool": given.pool, "temperature": 0.1}
            if given.pool not in ("softmax", "logsumexp"):
                del options["temperature"]
            return clip_similarity(x, y, items.mask, queries.mask, **options).values

        search = functools.partial(bank.search, queries, given.k)
        kinds = {
            "product": lambda: plain_product(bank, queries),
            "exact": lambda: search(score=score),
            "coarse": search,
            "coarse, then fine": lambda: search(score=score, shortlist=given.shortlist),
        }
        if given.alone:
            before = peak_gib()
            kinds[given.alone]()
            print(peak_gib() - before)
        else:
            report(given, kinds, {kind: memory_alone(folder, kind) for kind in kinds})


def memory_alone(folder: pathlib.Path, kind: str) -> float:
    """How much the peak memory grows with a search in a process of its own, in GiB."""
    flags = [*sys.argv[1:], f"--folder={folder}", f"--alone={kind}"]
    command = [sys.executable, __file__, *flags]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def report(given, kinds, memory) -> None:
    """Runs the searches in turn and prints medians."""
    timed = {kind: functools.partial(timing.seconds, run) for kind, run in kinds.items()}
    timing.in_turns(timed, 1)  # compiles
    seconds = timing.in_turns(timed, given.rounds)
    print(
        f"{given.rows} rows x {given.local} x {given.width} float16, {given.queries} queries of "
        f"{given.phrases} phrases, pool {given.pool}, {jax.devices()[0].device_kind}"
    )
    print("| search | s | rows/s | of product | memory above, GiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    product = statistics.median(seconds["product"])
    for kind, took in seconds.items():
        median = statistics.median(took)
        print(
            f"| {kind} | {median:.4g} | {given.rows / median:,.0f} | {product / median:.2f} "
            f"| {memory[kind]:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
