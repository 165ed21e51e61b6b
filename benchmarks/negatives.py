"""What negatives cost by the number of devices, and how far drawn negatives bias the loss.

    python benchmarks/negatives.py [--devices=2,8,64]     FLOPs and bytes of compiled programs
    python benchmarks/negatives.py --bias                 of the logarithm of sums, by k
    python benchmarks/negatives.py --time                 value and gradient, in milliseconds

The first compiles value and gradient of ``info_nce`` for simulated devices of ``--clips`` clips
each and does not run it. It reads FLOPs of products and received bytes from the program, as
``hlo.py`` does: of the fine scores and of the coarse scores, which choose the candidates. It prints
the bytes over those of the formula ``received_bytes``.

The second draws candidates of random clips whose fine scores are their coarse scores with noise. It
prints the mean and the standard deviation, over draws and clips, of log Σ over the candidates minus
log Σ over all negatives.

The third needs a machine that does nothing else. On one device it times all pairs and candidates in
turns.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgmm import losses
from fgmm.losses.sharded import received_bytes

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks import hlo, timing

KINDS = ("all", "hardest", "importance")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", default="2,8,64", help="numbers of simulated devices")
    parser.add_argument("--clips", type=int, default=32, help="b, clips of a simulated device")
    parser.add_argument("--k", type=int, default=64, help="candidates of a clip")
    parser.add_argument("--N", type=int, default=196, help="local embeddings of a clip")
    parser.add_argument("--P", type=int, default=16, help="phrases of a caption")
    parser.add_argument("--D", type=int, default=256, help="embedding width")
    parser.add_argument("--B", type=int, default=1024, help="clips of --bias and --time")
    parser.add_argument("--bias", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of --time")
    return parser.parse_args()


def fine_loss(negatives, k, implementation="blockwise"):
    """``info_nce`` on the fine scores of a device's clips, with negatives of one of ``KINDS``."""

    def loss(x, y, x_coarse, y_coarse, x_mask, y_mask, key, *, axis_name=None):
        across = {"axis_name": axis_name}
        scores, counts = {}, None
        if negatives != "all":
            with jax.named_scope("coarse_scores"):
                coarse = losses.clip_similarity(
                    *(x_coarse[:, None], y_coarse[:, None]),
                    *(mask.any(1, keepdims=True) for mask in (x_mask, y_mask)),
                    pool="mean",
                    **across,
                )
            options = {"k": k, "temperature": 0.07, **across}
            if negatives == "hardest":
                candidates = losses.hardest_candidates(coarse, **options)
            else:
                keys = losses.clip_keys(key, len(x), axis_name)
                candidates, counts = losses.importance_candidates(coarse, **options, keys=keys)
            scores = {"candidates": candidates}
        with jax.named_scope("fine_scores"):
            S = losses.clip_similarity(
                *(x, y, x_mask, y_mask),
                pool="softmax",
                temperature=0.1,
                implementation=implementation,
                **scores,
                **across,
            )
        S = dataclasses.replace(S, counts=counts)
        return losses.info_nce(S, temperature=0.07, **across)

    return loss


def shapes_of(arguments, clips):
    N, P, D = arguments.N, arguments.P, arguments.D
    numbers = [(clips, N, D), (clips, P, D), (clips, D), (clips, D)]
    return [*((shape, "float32") for shape in numbers), ((clips, N), "bool"), ((clips, P), "bool")]


def compiled(arguments, devices, negatives):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    by_clip, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    inputs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=by_clip)
        for shape, dtype in shapes_of(arguments, arguments.clips * devices)
    ]
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
    loss = losses.sharded(fine_loss(negatives, arguments.k), mesh)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*inputs, key).compile()


def read_programs(arguments):
    print(
        f"b {arguments.clips}, k {arguments.k}, N {arguments.N}, P {arguments.P}, D {arguments.D}"
    )
    print("| devices | negatives | fine GFLOP | coarse GFLOP | received MiB | / formula |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for devices in map(int, arguments.devices.split(",")):
        for negatives in KINDS:
            text = compiled(arguments, devices, negatives).as_text()
            flops = {"fine_scores": 0.0, "coarse_scores": 0.0}
            for product in hlo.products(text):
                (part,) = (part for part in flops if part in product.scope)
                flops[part] += product.flops
            received = sum(
                transfer.received
                for transfer in hlo.transfers(text)
                if transfer.kind != "all-reduce"
            )
            formula = received_bytes(
                "info_nce",
                **{"devices": devices, "clips": arguments.clips, "negatives": negatives},
                **{axis: getattr(arguments, axis) for axis in ("N", "P", "D")},
                y_gated=False,
            )
            print(
                f"| {devices} | {negatives} | {flops['fine_scores'] / 1e9:.3f} "
                f"| {flops['coarse_scores'] / 1e9:.4f} | {received / 2**20:.3f} "
                f"| {received / formula:.4f} |",
                flush=True,
            )


def read_bias(arguments, draws=200):
    B, tau = min(arguments.B, 256), 0.07
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(B, 16)) for _ in range(2))
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    coarse = jnp.asarray(x @ y.T, jnp.float32)
    fine = coarse + 0.1 * jnp.asarray(rng.normal(size=(B, B)), jnp.float32)
    negatives = ~jnp.eye(B, dtype=bool)
    exact = jax.nn.logsumexp(jnp.where(negatives, fine / tau, -jnp.inf), axis=1)
    print(f"B {B}, temperature {tau}, {draws} draws; log of the sum over a clip's negatives")
    print("| k | bias | standard deviation |")
    print("| ---: | ---: | ---: |")
    for k in (8, 16, 32, 64, 128):

        def estimate(key, k=k):
            options = {"k": k, "temperature": tau, "keys": losses.clip_keys(key, B)}
            candidates, counts = losses.importance_candidates(coarse, **options)
            chosen = jnp.take_along_axis(fine, candidates, axis=1) / tau + jnp.log(counts)
            return jax.nn.logsumexp(chosen[:, 1:], axis=1) - exact

        keys = jax.random.split(jax.random.key(0), draws)
        found = np.asarray(jax.lax.map(estimate, keys))
        print(f"| {k} | {found.mean():+.4f} | {found.std():.4f} |", flush=True)


def read_times(arguments):
    rng = np.random.default_rng(0)
    inputs = []
    for shape, dtype in shapes_of(arguments, arguments.B):
        v = np.ones(shape, bool) if dtype == "bool" else rng.normal(size=shape).astype(dtype)
        inputs.append(v if dtype == "bool" else v / np.linalg.norm(v, axis=-1, keepdims=True))
    inputs = [*map(jnp.asarray, inputs), jax.random.key(0)]
    steps = {}
    for negatives in KINDS:
        step = jax.jit(jax.value_and_grad(fine_loss(negatives, arguments.k), argnums=(0, 1)))
        program = step.lower(*inputs).compile()
        steps[negatives] = functools.partial(timing.seconds, program, *inputs)
    times = timing.in_turns(steps, arguments.rounds)
    print(f"B {arguments.B}, k {arguments.k}, N {arguments.N}, P {arguments.P}, D {arguments.D}")
    print("| negatives | ms | (min-max) | times faster than all |")
    print("| --- | ---: | ---: | ---: |")
    for negatives, seconds in times.items():
        ms = [1000 * second for second in seconds]
        ratio = timing.ratio(times["all"], seconds)
        spread = f"({min(ms):.0f}-{max(ms):.0f})"
        print(f"| {negatives} | {statistics.median(ms):.0f} | {spread} | {ratio:.2f} |")


def main():
    arguments = parse_arguments()
    if arguments.bias:
        read_bias(arguments)
    elif arguments.time:
        read_times(arguments)
    else:
        # XLA reads its flags at the first computation.
        most = max(map(int, arguments.devices.split(",")))
        simulated = f" --xla_force_host_platform_device_count={most}"
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + simulated
        jax.config.update("jax_platforms", "cpu")
        read_programs(arguments)


if __name__ == "__main__":
    main()
