"""Temporary memory of the fine-grained loss, dense and blockwise, read from the compiled programs.

    python benchmarks/loss_memory.py [--batches=64,128,256,512]

The whole objective: ``info_nce`` on ``clip_similarity`` in both directions with K captions of P
phrases a clip, beside a coarse term; value and gradient with respect to all embeddings and the
attention's temperature. Nothing is run, so programs that would not fit are counted too. Beside it
are the coarse term alone and the size of the embeddings themselves.
"""

import argparse

import jax

from fgmm.losses import clip_similarity, info_nce
from fgmm.losses.dense import POOLS, POOLS_WITH_TEMPERATURE


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", default="64,128,256,512", help="values of B = C")
    parser.add_argument("--K", type=int, default=4, help="captions of a clip")
    parser.add_argument("--N", type=int, default=196, help="local embeddings of a clip")
    parser.add_argument("--P", type=int, default=16, help="phrases of a caption")
    parser.add_argument("--D", type=int, default=256, help="embedding width")
    parser.add_argument("--pool", choices=POOLS, default="softmax")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_args()


def coarse(x, y):
    return info_nce(clip_similarity(x[:, None], y, pool="mean"), temperature=0.07)


def fine(x, y, temperature, pool, implementation):
    temperature = temperature if pool in POOLS_WITH_TEMPERATURE else None
    options = {"pool": pool, "temperature": temperature, "implementation": implementation}
    S = clip_similarity(x, y, direction="symmetric", **options)
    return info_nce(S, temperature=0.07)


def mebibytes(loss, *shapes_and_types):
    """The MiB that a loss and its gradient need beside arguments and results."""
    arguments = [jax.ShapeDtypeStruct(*each) for each in shapes_and_types]
    step = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(arguments)))))
    return step.lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 2**20


def main():
    arguments = parse_arguments()
    K, N, P, D, dtype = (getattr(arguments, name) for name in ("K", "N", "P", "D", "dtype"))
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; MiB of temporary memory")
    print(f"N {N}, K {K}, P {P}, D {D}, {dtype}, {arguments.pool}, both directions")
    names = ("embeddings", "coarse alone", "blockwise", "dense", "dense / blockwise")
    print(f"{'B = C':>6}" + "".join(f"{name:>19}" for name in names))
    for B in map(int, arguments.batches.split(",")):
        sides = ((B, D), dtype), ((B, K, D), dtype)
        local = ((B, N, D), dtype), ((B, K * P, D), dtype), ((), "float32")
        found = {}
        for implementation in ("blockwise", "dense"):

            def objective(x, y, x_local, y_local, temperature, implementation=implementation):
                more = fine(x_local, y_local, temperature, arguments.pool, implementation)
                return coarse(x, y) + more

            found[implementation] = mebibytes(objective, *sides, *local)
        itemsize = jax.numpy.dtype(dtype).itemsize
        embeddings = B * (N + K * P + K + 1) * D * itemsize / 2**20
        row = embeddings, mebibytes(coarse, *sides), found["blockwise"], found["dense"]
        ratio = found["dense"] / found["blockwise"]
        print(f"{B:6}" + "".join(f"{value:19.1f}" for value in (*row, ratio)), flush=True)


if __name__ == "__main__":
    main()
