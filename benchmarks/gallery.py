"""Time and memory of retrieval in a large gallery, by scores that are computed in tiles.

    python benchmarks/gallery.py [--clips=100000] [--width=64]

Random coarse embeddings of clips and their captions, each caption close to its own clip, are ranked
in both directions as ``fgmm.eval.retrieval`` does. It prints the time, and how much the peak memory
grew. The embeddings of both sides are not counted.
"""

import argparse
import resource
import sys
import time

import numpy as np

from fgmm.eval import ranks


def peak() -> float:
    """The peak resident memory of this process in MiB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def unit(x):
    """The same directions with length one."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def main(argv: list[str]) -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=100_000, help="G, and as many captions")
    parser.add_argument("--width", type=int, default=64, help="D")
    arguments = parser.parse_args(argv)
    G, rng = arguments.clips, np.random.default_rng(0)
    x = unit(rng.standard_normal((G, arguments.width), np.float32))
    y = unit(x + 0.9 * unit(rng.standard_normal((G, arguments.width), np.float32)))
    relevance = ranks.Relevance.of(np.arange(G), np.arange(G), G)
    tiles = ranks.Tiles(lambda rows, columns: {"coarse": x[rows] @ y[columns].T}, G, G)
    before, start = peak(), time.perf_counter()
    found = ranks.outcomes(tiles, relevance, correct_hubs=False)
    seconds, grown = time.perf_counter() - start, peak() - before
    recalls = ", ".join(f"{np.mean(both.ranks <= 10):.1%}" for both in found["coarse"])
    print(f"{G:,} clips and captions: {seconds:.1f} s, {grown:,.0f} MiB more; R@10 {recalls}")


if __name__ == "__main__":
    main(sys.argv[1:])
