"""What a training step's devices send each other and compute, read from compiled programs.

    python benchmarks/scaling.py [--devices=2,4,8,16,32] [--output=docs/results/scaling.json]

It compiles the whole train step for simulated devices, with a small encoder and a loss of real
size, and does not run it. It prints the bytes a device receives and the FLOPs of its products, as
``hlo.py`` reads them. Those of the loss stand beside the formulas: ``received_bytes``, and the
products of ``scaling_model.py``. The last column is the share of the loss's time that would be
communication on ``--machine``. Other modes:

``--count``   FLOPs, parameters, activations of S3D and ViViT-B on 32 frames of 224 x 224, traced.
``--device``  step time, FLOP utilisation and memory of both on the device that is there, coarse
              terms alone and with the fine-grained one, at the first of ``--clips`` that fits. It
              needs neither grain nor PyAV::

                  python benchmarks/scaling.py --device --clips=96,80,64,48,32,24,16,8
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import sys
import time

import jax
import numpy as np
from absl import flags, logging

from fgmm import command_line, components, provenance, xla_flags
from fgmm import config as configs
from fgmm.experiment import build as experiments
from fgmm.losses import blockwise
from fgmm.losses.sharded import received_bytes
from fgmm.models import counts
from fgmm.train import mesh as meshes
from fgmm.train import sharding
from fgmm.train.step import make_train_step

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks import hlo
from benchmarks import scaling_model as model

# Sizes of configs/howto100m_s3d.py.
SIZES = {"K": 4, "P": 6, "D": 512, "tokens": 24}
LARGE = {
    "S3D": {"name": "s3d", "dtype": "bfloat16"},
    "ViViT-B": {"name": "vivit", "width": 768, "depth": 12, "heads": 12, "dtype": "bfloat16"},
}
LARGE_FRAMES, LARGE_SIZE = 32, 224
# Tokens of a corpus such as HowTo100M; programs compiled here have those of the shipped tokenizer.
VOCABULARY = 32_000
# Tubelets of 2 x 16 x 16 pixels, so that 8 x 112 x 112 has S3D's N = 196.
SMALL = {"name": "vivit", "width": 32, "depth": 1, "heads": 2}
MIB = 2**20

flags.DEFINE_list("devices", ["4", "8"], "Numbers of simulated devices.")
flags.DEFINE_integer("batch", 8, "b, clips of a simulated device.")
flags.DEFINE_integer("frames", 8, "Of a clip of the small encoder; N is frames / 2 (size / 16)^2.")
flags.DEFINE_integer("size", 112, "Rows and columns of its frames.")
flags.DEFINE_enum("machine", "h100", list(model.MACHINES), "Whose data sheet is used.")
flags.DEFINE_float("utilisation", model.Options().utilisation, "Share of the peak products reach.")
flags.DEFINE_string("output", None, "A JSON file whose part of this mode is replaced.")
flags.DEFINE_bool("count", False, "Count FLOPs, parameters and activations of large encoders.")
flags.DEFINE_bool("device", False, "Time steps on the device that is there.")
flags.DEFINE_list("encoders", list(LARGE), "For --device.")
flags.DEFINE_list("clips", ["64", "48", "32", "24", "16", "8"], "Batches for --device to try.")
flags.DEFINE_integer("steps", 10, "Of each timing of --device.")
flags.DEFINE_integer("rounds", 5, "Timings of --device.")
flags.DEFINE_integer("large_frames", LARGE_FRAMES, "Frames for --device.")
flags.DEFINE_integer("large_size", LARGE_SIZE, "Rows and columns for --device.")


def experiment_of(
    video, *, batch, frames, size, fine=True, exchange="gather", fsdp=1, dtype="float32"
):
    """Video and text with MIL-NCE on whole clips and, if ``fine``, on cells and phrases."""
    config = configs.defaults()
    config.batch_size, config.exchange = batch, exchange
    config.mesh.update(fsdp=fsdp, fsdp_minimum=32)
    config.data.update(frames=frames, height=size, width=size, tokens=SIZES["tokens"])
    config.data.update(captions=SIZES["K"], phrases=SIZES["P"])
    config.model.video = dict(video)
    config.model.text = {"name": "phrase_bag", "width": 300, "hidden": 2048}
    config.model.spaces.joint.update(modalities=("video", "text"), width=SIZES["D"], bias=True)
    config.model.spaces.joint.dtype = dtype
    common = {"name": "mil_nce", "pair": "video_text", "space": "joint"}
    config.objective.terms.coarse = {**common, "level": "coarse"}
    if fine:
        config.objective.terms.fine = {**common, "level": "fine", "implementation": "blockwise"}
    return experiments.build(components.complete(config))


def compiled_step(experiment, mesh):
    """The train step as it would run, compiled from shapes alone."""
    shardings = sharding.of_state(experiment, mesh)
    state = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        jax.eval_shape(experiment.init, 0),
        shardings,
    )
    batch = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=meshes.by_clip(mesh))
        for name, x in experiment.blank_batch(experiment.config.batch_size).items()
    }
    return make_train_step(experiment, mesh).lower(state, batch).compile()


def measured(devices: int, *, fine: bool, exchange: str, fsdp: int) -> dict:
    """Bytes and FLOPs of a device, found in a program and by formula."""
    options = flags.FLAGS
    experiment = experiment_of(
        SMALL,
        batch=options.batch * devices,
        frames=options.frames,
        size=options.size,
        fine=fine,
        exchange=exchange,
        fsdp=fsdp,
    )
    mesh = meshes.make_mesh(jax.devices()[:devices], fsdp=fsdp)
    compiled = compiled_step(experiment, mesh)
    text, received, turns = compiled.as_text(), collections.Counter(), 0
    of_loss = 0.0
    for transfer in hlo.transfers(text):
        received[transfer.kind] += transfer.received
        turns += transfer.turns
        # XLA joins all-reduces under the name of one of them. Those of the loss are only scalars.
        if "shard_map" in transfer.scope and transfer.kind != "all-reduce":
            of_loss += transfer.received
    flops = [(product.flops, "shard_map" in product.scope) for product in hlo.products(text)]
    N = options.frames // 2 * (options.size // 16) ** 2
    expected_bytes, expected_flops = by_formula(devices, N, fine, exchange)
    return {
        "devices": devices,
        "fine": fine,
        "exchange": exchange,
        "fsdp": fsdp,
        "received": dict(received),
        "collectives": turns,
        "loss_bytes": of_loss,
        "loss_bytes_by_formula": expected_bytes,
        "flops": sum(count for count, _ in flops),
        "loss_flops": sum(count for count, of in flops if of),
        "loss_flops_by_formula": expected_flops,
        "flops_by_xla": compiled.cost_analysis()["flops"],
    }


def by_formula(devices, N, fine, exchange):
    """Bytes that a device receives for the loss, and FLOPs of its products."""
    clips, K, D = flags.FLAGS.batch, SIZES["K"], SIZES["D"]
    of = functools.partial(
        received_bytes, "mil_nce", devices=devices, clips=clips, D=D, exchange=exchange
    )
    received, pairs = of(N=1, P=K), 2 * clips**2 * devices * D
    # The coarse term is dense: three products, and one more around the ring.
    ring = exchange == "ring"
    flops = (3 + ring) * pairs * K
    if fine:
        J, captions = K * SIZES["P"], clips if ring else clips * devices
        received += of(N=N, P=J)
        # If everything fits in one block, XLA sees that it is computed twice, and computes it once.
        one_block = blockwise.choose_block(clips, captions, N, J) == (clips, captions)
        flops += (4 + ring - one_block) * pairs * N * J
    return received, flops


def measure() -> list[dict]:
    options, rows = flags.FLAGS, []
    machine = model.MACHINES[options.machine]
    kinds = ("all-gather", "reduce-scatter", "all-to-all", "collective-permute", "all-reduce")
    print(f"MiB that a device receives in a step, b = {options.batch}; {machine.name}")
    print(f"{'':32}" + "".join(f"{kind:>20}" for kind in (*kinds, "loss", "of formula")), end="")
    print(f"{'loss GFLOP':>14}{'of formula':>12}{'communication':>15}")
    for devices in map(int, options.devices):
        for fine, exchange, fsdp in (
            (True, "gather", 1),
            (True, "ring", 1),
            (True, "gather", devices),
            (False, "gather", 1),
        ):
            row = measured(devices, fine=fine, exchange=exchange, fsdp=fsdp)
            rows.append(row)
            label = f"{devices}, {'fine' if fine else 'coarse'}, {exchange}, fsdp {fsdp}"
            cells = [row["received"].get(kind, 0) / MIB for kind in kinds]
            print(f"{label:32}" + "".join(f"{cell:20.3f}" for cell in cells), end="")
            ratio = row["loss_bytes"] / row["loss_bytes_by_formula"]
            of_flops = row["loss_flops"] / row["loss_flops_by_formula"]
            wire = row["loss_bytes"] / machine.network(devices, exchange)
            work = row["loss_flops"] / (options.utilisation * machine.peak_float32)
            print(f"{row['loss_bytes'] / MIB:20.3f}{ratio:20.4f}", end="")
            print(f"{row['loss_flops'] / 1e9:14.3f}{of_flops:12.4f}{wire / (wire + work):15.1%}")
            sys.stdout.flush()
    return rows


def counted(name: str) -> model.Workload:
    """The workload of an encoder beside text, found by tracing alone."""
    experiment = experiment_of(LARGE[name], batch=1, frames=LARGE_FRAMES, size=LARGE_SIZE)
    encoders = dict(experiment.model.encoders)
    encoders["text"] = encoders["text"].clone(vocabulary=VOCABULARY)
    experiment = dataclasses.replace(experiment, model=experiment.model.clone(encoders=encoders))
    inputs = jax.eval_shape(experiment.transforms, experiment.blank_batch(1))
    parts = counts.parts(experiment.model, inputs)
    return model.Workload(
        name=name,
        forward_flops=sum(part.flops for part in parts),
        parameters=sum(part.parameters for part in parts),
        # The difference leaves out parameters, which are kept once for all clips.
        kept_bytes=_kept(experiment, 2) - _kept(experiment, 1),
        N=_cells(experiment, inputs),
        **{axis: SIZES[axis] for axis in ("K", "P", "D")},
    )


def _kept(experiment, clips):
    """Bytes that the traced forward pass hands to the backward pass."""

    def pull_back(params, statistics, inputs):
        def embed(params):
            return experiment.model.apply(
                {"params": params, **statistics},
                inputs,
                train=True,
                mutable=list(statistics),
                rngs={"dropout": jax.random.key(0)},
            )

        return jax.vjp(embed, params)[1]

    inputs = jax.eval_shape(experiment.transforms, experiment.blank_batch(clips))
    state = jax.eval_shape(experiment.init, 0)
    kept = jax.eval_shape(pull_back, state.params["model"], state.statistics, inputs)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))


def _cells(experiment, inputs):
    """N of the video's embeddings."""
    params = jax.eval_shape(experiment.init, 0)
    variables = {"params": params.params["model"], **params.statistics}
    found = jax.eval_shape(experiment.model.apply, variables, inputs)
    return found["joint"]["video"].local.shape[1]


def timed(name: str, clips: int, fine: bool) -> dict | None:
    """Times steps on the first device; None if they do not fit into its memory."""
    options = flags.FLAGS
    experiment = experiment_of(
        LARGE[name],
        batch=clips,
        frames=options.large_frames,
        size=options.large_size,
        fine=fine,
    )
    mesh = meshes.make_mesh(jax.devices()[:1])
    try:
        step = compiled_step(experiment, mesh)
        analysis = step.memory_analysis()
        state = jax.jit(experiment.init, out_shardings=meshes.everywhere(mesh))(0)
        batch = meshes.put_batch(random_batch(experiment, clips), mesh)
        times = []
        for _ in range(options.rounds + 1):
            start = time.perf_counter()
            for _ in range(options.steps):
                state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
            times.append((time.perf_counter() - start) / options.steps)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    assert np.isfinite(float(metrics["loss"])), "the loss is not finite"
    inputs = jax.eval_shape(experiment.transforms, experiment.blank_batch(1))
    forward = sum(part.flops for part in counts.parts(experiment.model, inputs))
    seconds = statistics.median(times[1:])
    peak = model.MACHINES[options.machine].peak
    used = jax.devices()[0].memory_stats() or {}
    return {
        "encoder": name,
        "clips": clips,
        "fine": fine,
        "seconds": seconds,
        "fastest": min(times[1:]),
        "slowest": max(times[1:]),
        "utilisation": 3 * forward * clips / seconds / peak,
        "program_bytes": analysis.temp_size_in_bytes + analysis.argument_size_in_bytes,
        "peak_bytes": used.get("peak_bytes_in_use"),
    }


def random_batch(experiment, clips):
    """A random batch in which nothing is masked."""
    rng = np.random.default_rng(0)
    high = {"video": 256, "tokens": experiment.tokenizer.vocabulary_size, "phrase_ids": 7}

    def filled(name, x):
        if x.dtype == bool:
            return x
        if name == "audio":
            return rng.uniform(-1, 1, x.shape).astype(x.dtype)
        return rng.integers(0, high[name], x.shape).astype(x.dtype)

    return {name: filled(name, x) for name, x in experiment.blank_batch(clips).items()}


def time_steps() -> list[dict]:
    options, rows = flags.FLAGS, []
    print(f"{jax.devices()[0].device_kind}; utilisation of {options.machine}'s bfloat16 peak")
    print(f"{'':24}{'ms a step':>12}{'(min-max)':>20}{'utilisation':>13}{'GiB':>8}{'peak GiB':>10}")
    for name in options.encoders:
        for clips in map(int, options.clips):
            # The larger program first: coarse terms alone fit where it does.
            fine = timed(name, clips, True)
            if fine is None:
                print(f"{name}, {clips} clips: does not fit into the device's memory", flush=True)
                continue
            found = [fine, timed(name, clips, False)]
            rows += found
            for row in found:
                label = f"{name}, {clips}, {'fine' if row['fine'] else 'coarse'}"
                spread = f"({1e3 * row['fastest']:.1f}-{1e3 * row['slowest']:.1f})"
                peak = f"{row['peak_bytes'] / 2**30:.1f}" if row["peak_bytes"] else "unknown"
                print(f"{label:24}{1e3 * row['seconds']:12.1f}{spread:>20}", end="")
                print(f"{row['utilisation']:13.1%}{row['program_bytes'] / 2**30:8.1f}{peak:>10}")
            share = 1 - found[1]["seconds"] / found[0]["seconds"]
            print(f"{name}: the fine-grained loss takes {share:.1%} of the step", flush=True)
            break
    return rows


def main(argv):
    del argv
    logging.set_verbosity(logging.ERROR)
    options = flags.FLAGS
    if options.count:
        found = {"workloads": [vars(counted(name)) for name in LARGE]}
        print(json.dumps(found, indent=1))
    elif options.device:
        found = {"timed": time_steps()}
    else:
        found = {"programs": measure(), "batch": options.batch}
    if options.output:
        path = pathlib.Path(options.output)
        before = json.loads(path.read_text()) if path.exists() else {}
        made = {f"{name}_made": provenance.here() for name in found if name != "batch"}
        path.write_text(json.dumps({**before, **found, **made}, indent=1) + "\n")


def _most_devices() -> int:
    """Simulated devices have to be asked for before JAX starts."""
    return max(map(int, (command_line.given("devices") or "4,8").split(",")))


def _simulates() -> bool:
    """Whether no flag says to time steps on the device that is there."""
    return not {"--device", "--device=true"} & set(sys.argv)


if __name__ == "__main__":
    if _simulates():
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "")
            + f" --xla_force_host_platform_device_count={_most_devices()}"
        )
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    xla_flags.configure()
    command_line.run(main)
