"""The same config on other devices and processes: how far its losses are apart.

    python benchmarks/equality.py [--steps=50] [--processes=1,2,4] [--output=FILE.json]

A small model with batch normalisation, dropout and augmentation is trained in float64 and float32
on 1, 2, 4 and 8 simulated devices, its parameters shared out or not, in one process and in several,
and with ``grad_cache`` and ``accumulate`` on and off. Every loss is compared with that of a run on
one device. With ``accumulate`` a loss has fewer negatives, and with ``grad_cache`` batch
normalisation sees parts of a batch, so the run on one device then has the same two options. Without
dropout and batch normalisation, ``grad_cache`` is compared with a run that has none.
``python -m benchmarks.pages.equality_table`` makes a table of ``docs/results/equality.json``. The
exit code is 1 if a difference is larger than this allows:

=======  ============================  =====================
type     first 3 steps                 all steps
=======  ============================  =====================
float64  1e-8                          1e-8
float32  1e-5                          1e-3
=======  ============================  =====================
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from fgmm import command_line, components, provenance, xla_flags
from fgmm.config import as_dict
from fgmm.config.option import Option
from fgmm.data import pipeline
from fgmm.data.stream import training_batches
from fgmm.eval import binary
from fgmm.experiment import build as experiments
from fgmm.experiment.rules import path_of
from fgmm.train import distributed, sharding
from fgmm.train import mesh as meshes
from fgmm.train.step import make_train_step

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from benchmarks.pages.equality_table import described
from configs import quickstart

DEVICES = 8
# The largest relative differences of losses that are allowed: in the first 3 steps, and in all.
ALLOWED = {"float64": (1e-8, 1e-8), "float32": (1e-5, 1e-3)}


@dataclasses.dataclass(frozen=True)
class Run:
    """What is varied.

    Attributes:
      dtype: of parameters and activations.
      devices: of all processes.
      fsdp, grad_cache, accumulate: as in the config.
      plain: without batch normalisation and dropout, so that ``grad_cache`` must change no loss.
    """

    dtype: str = "float64"
    devices: int = 1
    fsdp: int = 1
    grad_cache: int = 1
    accumulate: int = 1
    plain: bool = False

    def kind(self) -> "Run":
        """The run on one device that it should equal."""
        parts = 1 if self.plain else self.grad_cache
        return dataclasses.replace(self, devices=1, fsdp=1, grad_cache=parts)


def losses(run: Run, steps: int) -> list[float]:
    """Trains on the first ``run.devices`` devices of all processes; returns the loss of each step.

    Every process has to call it.
    """
    with _computing_in(run.dtype):
        experiment = _experiment(run, steps)
        mesh = meshes.make_mesh(jax.devices()[: run.devices], fsdp=run.fsdp)
        shardings = sharding.of_state(experiment, mesh)
        if run.fsdp > 1:
            cut = [not s.is_fully_replicated for s in jax.tree.leaves(shardings.params)]
            assert any(cut), "no parameter is shared out"

        state = jax.device_put(_initial(experiment), shardings)
        step = make_train_step(experiment, mesh)
        found = []
        for batch in _batches(experiment, steps):
            batch = {name: _as(run.dtype, x) for name, x in batch.items()}
            state, metrics = step(state, meshes.put_batch(batch, mesh))
            found.append(float(metrics["loss"]))
        return found


def _experiment(run: Run, steps: int) -> experiments.Experiment:
    config = quickstart.get_config("fine=fine_grained_nce")
    config.steps, config.batch_size = max(steps, 10), 16
    config.optimizer.schedule.warmup = 2
    config.data.source.update(size=32, frames=4, fps=4.0, clips=64)
    config.data.update(frames=2, height=16, width=16)
    config.transforms.update(crop_area=0.5, flip=True)
    del config.model.audio
    config.model.spaces.joint.update(modalities=("video", "text"), width=8)
    if run.plain:
        config.model.video = {"name": "vivit", "width": 16, "depth": 1, "heads": 2, "patch": 8}
        config.model.video.dtype = run.dtype
    else:
        config.model.video.update(widths=(8,), temporal_strides=(1,), dtype=run.dtype)
    config.model.text = {"name": "phrase_bag", "width": 16, "hidden": 16}
    config.model.text.update(dtype=run.dtype, dropout=0.0 if run.plain else 0.2)
    terms = config.objective.terms
    for term in list(terms):
        if not term.endswith("video_text"):
            del terms[term]
    config.evals, config.checkpoint.best_metric = {}, ""
    config.grad_cache, config.accumulate = run.grad_cache, run.accumulate
    config.mesh.update(fsdp=run.fsdp, fsdp_minimum=32)
    return experiments.build(components.complete(config))


@contextlib.contextmanager
def _computing_in(dtype: str):
    """Gives float64 to code that asks for float32. No config can ask for float64."""
    if dtype == "float32":
        yield
        return
    with (
        jax.enable_x64(True),
        mock.patch.object(jnp, "float32", jnp.float64),
        mock.patch.object(Option, "check_range", return_value=None),
    ):
        yield


def _initial(experiment):
    """A state of arrays drawn by NumPy, which compiles nothing; temperatures are as in training."""
    chance = np.random.default_rng(0)

    def drawn(at, like):
        name = path_of(at)
        if name == "key":
            return np.arange(like.size, dtype=like.dtype)
        if not jnp.issubdtype(like.dtype, jnp.floating):
            return np.zeros(like.shape, like.dtype)
        dtype = jnp.float32  # which may be float64 here
        if name.startswith("opt_state"):
            return np.zeros(like.shape, dtype)
        if name.endswith(("kernel", "embedding")):
            fan_in = 1 if name.endswith("embedding") else np.prod(like.shape[:-1])
            return (chance.normal(size=like.shape) / np.sqrt(fan_in)).astype(dtype)
        return np.full(like.shape, float(name.endswith(("scale", "var"))), dtype)

    blank = jax.eval_shape(experiment.init, 0)
    state = jax.tree_util.tree_map_with_path(drawn, blank)
    temperatures = jax.tree.map(np.asarray, experiment.objective.init())
    return state.replace(params={**state.params, "objective": temperatures})


def _as(dtype, x):
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _batches(experiment, steps) -> Iterable[dict[str, np.ndarray]]:
    source = experiment.source(experiment.config.data.source, "data.source")
    stream = training_batches(
        experiment.assembler(source),
        seed=0,
        batch_size=experiment.config.batch_size,
        process=jax.process_index(),
        processes=jax.process_count(),
        threads=1,
    )
    for _ in range(steps):
        yield {k: v for k, v in next(stream).items() if k not in pipeline.HOST_ONLY}


def in_processes(runs: list[Run], steps: int, processes: int, timeout: int) -> list[list[float]]:
    """The losses of runs on all 8 devices, shared out among real processes.

    Args:
      runs: one after the other in the same processes.
      steps: of each run.
      processes: how many; a divisor of 8.
      timeout: seconds for all runs of a process.

    Raises:
      RuntimeError: a process failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
        + f" --xla_force_host_platform_device_count={DEVICES // processes}",
    }
    given = json.dumps([dataclasses.asdict(run) for run in runs])
    started = [
        subprocess.Popen(
            [
                *(sys.executable, __file__, f"--worker={index}", f"--processes={processes}"),
                *(f"--port={port}", f"--steps={steps}", f"--runs={given}"),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        ended = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, ended, strict=True):
        if process.returncode:
            raise RuntimeError(errors[-3000:])
    found = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    # A loss is that of the global batch, the same number in every process.
    assert all(other == found[0] for other in found), "processes have different losses"
    return found[0]


def difference(found: list[float], expected: list[float]) -> np.ndarray:
    """The relative difference of the losses of each step, [steps]."""
    return np.abs(np.array(found) / np.array(expected) - 1)


def _flags() -> None:
    flags.DEFINE_integer("steps", 50, "Steps of each run.")
    flags.DEFINE_list("dtypes", list(ALLOWED), "Types of parameters and activations.")
    flags.DEFINE_list("processes", ["1", "2", "4"], "Numbers of processes, divisors of 8.")
    flags.DEFINE_string("output", None, "A JSON file of all differences.")
    flags.DEFINE_integer("worker", None, "Which process of several this is; started by itself.")
    flags.DEFINE_string("runs", None, "What a worker runs.")
    flags.DEFINE_integer("port", None, "Where workers meet.")


def _work() -> None:
    options = flags.FLAGS
    address, count = f"127.0.0.1:{options.port}", int(options.processes[0])
    distributed.initialise(address, count, options.worker)
    runs = [Run(**run) for run in json.loads(options.runs)]
    print(json.dumps([losses(run, options.steps) for run in runs]))


def compared(run: Run, processes: int, found: list[float], expected: list[float]) -> dict:
    """What a run was, how far its losses are from those expected, and whether that is allowed."""
    apart = difference(found, expected)
    first, every = float(apart[:3].max()), float(apart.max())
    most_first, most = ALLOWED[run.dtype]
    return {
        **dataclasses.asdict(run),
        "processes": processes,
        "first_steps": first,
        "all_steps": every,
        "within": bool(first <= most_first and every <= most),
        "last_loss": found[-1],
    }


def _comparisons(dtype: str, steps: int, processes: list[int]) -> Iterator[dict]:
    expected = {}
    for run in _in_one_process(dtype):
        found = losses(run, steps)
        if run == run.kind():
            expected[run] = found
        yield compared(run, 1, found, expected[run.kind()])
    runs = _in_several_processes(dtype)
    for count in processes:
        if count > 1:
            for run, found in zip(runs, in_processes(runs, steps, count, 1200), strict=True):
                yield compared(run, count, found, expected[run.kind()])


def _in_one_process(dtype: str) -> list[Run]:
    both = {"accumulate": 2, "grad_cache": 2}
    return [
        *(Run(dtype, devices) for devices in (1, 2, 4, 8)),
        *(Run(dtype, devices, fsdp) for devices, fsdp in ((2, 2), (4, 2), (8, 2), (8, 8))),
        *(Run(dtype, *mesh, grad_cache=2) for mesh in ((1, 1), (4, 2), (8, 1))),
        *(Run(dtype, *mesh, accumulate=2) for mesh in ((1, 1), (4, 2), (8, 1))),
        *(Run(dtype, *mesh, **both) for mesh in ((1, 1), (4, 2))),
        *(Run(dtype, *mesh, grad_cache=n, plain=True) for mesh, n in (((1, 1), 1), ((4, 2), 2))),
    ]


def _in_several_processes(dtype: str) -> list[Run]:
    parts = Run(dtype, 8, 4, grad_cache=2), Run(dtype, 8, 2, accumulate=2)
    return [Run(dtype, 8, 1), Run(dtype, 8, 2), *parts]


def main(argv):
    del argv
    logging.set_verbosity(logging.ERROR)
    options = flags.FLAGS
    if options.worker is not None:
        return _work()
    if unknown := [dtype for dtype in options.dtypes if dtype not in ALLOWED]:
        command_line.fail(f"--dtypes={','.join(unknown)} is unknown; allowed: {', '.join(ALLOWED)}")
    start, rows = time.monotonic(), []
    result = {
        "made": provenance.here(),
        "steps": options.steps,
        "allowed": ALLOWED,
        "rows": rows,
        "config": as_dict(_experiment(Run("float32"), options.steps).config),
    }
    print(f"{'':80}{'first 3 steps':>15}{f'{options.steps} steps':>12}")
    for dtype in options.dtypes:
        for row in _comparisons(dtype, options.steps, [int(n) for n in options.processes]):
            rows.append(row)
            label = ", ".join(described(row))
            mark = "" if row["within"] else "  too far"
            apart = f"{row['first_steps']:15.1e}{row['all_steps']:12.1e}"
            print(f"{dtype + ', ' + label:80}{apart}{mark}", flush=True)
            result["seconds"] = round(time.monotonic() - start)
            if options.output:
                binary.write(pathlib.Path(options.output), result)
    print(f"{len(rows)} runs in {result['seconds']} s")
    return 0 if all(row["within"] for row in rows) else 1


if __name__ == "__main__":
    if "--xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={DEVICES}"
        )
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    xla_flags.configure()
    _flags()
    command_line.run(main)
