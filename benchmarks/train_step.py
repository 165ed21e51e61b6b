"""Clips a second of the whole trainer against its bare jitted step on a batch already in memory.

    python benchmarks/train_step.py --config=quickstart [--steps=300] [--rounds=3]

The trainer is run as users run it, with reading, metrics, progress and checkpoints: once with the
corpus as it is, and once with clips in memory. This separates the cost of the trainer from that of
the corpus. The CPU time to read a clip of the corpus is printed too. The trainer saves as often as
the config says, so ``--steps`` should be a multiple of ``checkpoint.every_steps``. The kinds take
turns, since machines are noisy.
"""

import pathlib
import statistics
import tempfile
import time

import jax
import ml_collections
from absl import flags, logging

from fgmm import command_line, xla_flags
from fgmm.config.sections import Options
from fgmm.data import pipeline
from fgmm.data.stream import training_batches
from fgmm.experiment import build as experiments
from fgmm.experiment.evaluator import Evaluator
from fgmm.train import loop
from fgmm.train import mesh as meshes
from fgmm.train.step import make_train_step

command_line.define_config("The experiment, NAME[:k=v,...] or PATH.py.", Options)
_STEPS = flags.DEFINE_integer("steps", 300, "Steps of each timing.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timings of each kind.")


class InMemory:
    """A few clips of a source, rendered once."""

    def __init__(self, source, clips: int):
        self.report = source.report
        self._clips = [_rendered(source[i]) for i in range(clips)]

    def __len__(self):
        return len(self._clips)

    def __getitem__(self, index):
        return self._clips[int(index)]


def _rendered(clip):
    changes = {}
    if callable(clip.video):
        changes["video"] = _Constant(clip.video())
    if clip.audio is not None:
        changes["audio"] = _Constant(clip.audio())
    return type(clip)(**{**vars(clip), **changes})


class _Constant:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


def bare_step(experiment, source, steps: int) -> float:
    """Clips a second of the compiled step on one batch on the device."""
    mesh = meshes.make_mesh()
    batch_size = experiment.config.batch_size
    stream = training_batches(experiment.assembler(source), seed=0, batch_size=batch_size)
    host = next(stream)
    batch = meshes.put_batch({k: v for k, v in host.items() if k not in pipeline.HOST_ONLY}, mesh)
    state = jax.jit(experiment.init, out_shardings=meshes.everywhere(mesh))(0)
    step = make_train_step(experiment, mesh)
    for _ in range(3):
        state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    start = time.perf_counter()
    for _ in range(steps):
        state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    return batch_size * steps / (time.perf_counter() - start)


def trainer(experiment, source, steps: int) -> float:
    """Clips a second of ``fgmm.train.loop`` over the second half of its run, saves included."""
    times = []

    def note_the_time(state):
        times.append(time.perf_counter())
        return {}

    clock = Evaluator(every=steps, run=note_the_time)
    with tempfile.TemporaryDirectory() as folder:
        loop.train(experiment, source, pathlib.Path(folder), {"clock": clock})
    return experiment.config.batch_size * steps / (times[1] - times[0])


def core_milliseconds(experiment, source) -> float:
    """The CPU milliseconds to read a clip and make it an example of a batch."""
    assembler = experiment.assembler(source)
    clips = min(1000, len(source) // 2)
    for record in range(clips):  # shapes that are drawn once for all clips
        assembler(record)
    start = time.process_time()
    for record in range(clips, 2 * clips):
        assembler(record)
    return 1e3 * (time.process_time() - start) / clips


def main(argv):
    del argv
    xla_flags.configure()
    logging.set_verbosity(logging.ERROR)
    config = ml_collections.ConfigDict(command_line.required("config"))
    steps = _STEPS.value
    config.unlock()
    config.steps = 2 * steps
    config.checkpoint.best_metric = ""
    config.optimizer.schedule.warmup = 0
    config.evals = {}
    source = experiments.build(config).source(config.data.source, "data.source")
    kept = InMemory(source, 8 * config.batch_size)

    kinds = {
        "bare step": (bare_step, kept),
        "trainer, clips in memory": (trainer, kept),
        "trainer": (trainer, source),
    }
    rates = {name: [] for name in kinds}
    for _ in range(_ROUNDS.value):
        for name, (run, clips) in kinds.items():
            # Built anew, because a tokenizer remembers the captions that it has seen.
            rates[name].append(run(experiments.build(config), clips, steps))

    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind}, jax {jax.__version__}")
    print(f"{'':26}{'clips/s, median (min-max)':>30}{'of the bare step':>20}")
    bare = rates["bare step"]
    for name, values in rates.items():
        ratio = statistics.median(v / b for v, b in zip(values, bare, strict=True))
        spread = f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"
        print(f"{name:26}{spread:>30}{ratio:>20.1%}")
    core = core_milliseconds(experiments.build(config), source)
    print(f"one clip of the corpus takes a core {core:.2f} ms")


if __name__ == "__main__":
    command_line.run(main)
