"""The training loop: knows neither which losses nor which evaluations it runs."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.experiment import Experiment
from fgmm.train import init_from
from fgmm.train import mesh as meshes
from fgmm.train.checkpoint import Checkpoints, WorkdirLock
from fgmm.train.metrics import MetricsWriter
from fgmm.train.state import TrainState
from fgmm.train.step import make_train_step


class Diverged(RuntimeError):
    """Too many updates in a row were not finite; the last good state is saved."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """An evaluation inside training.

    Attributes:
      every: steps between evaluations; 0 for none but at the end.
      run: a function of the state to named numbers.
    """

    every: int
    run: Callable[[TrainState], Mapping[str, float]]

    def due(self, step: int, total: int) -> bool:
        """Whether it runs after ``step`` finished steps of ``total``."""
        return step == total or bool(self.every and step % self.every == 0)


class Interruption:
    """Turns SIGTERM and Ctrl-C into a wish to stop; a second one stops at once."""

    def __init__(self):
        self.name = ""
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        del frame
        self.name = signal.Signals(number).name
        self.__exit__()
        # A handler may interrupt a print, and prints do not nest.
        os.write(2, f"\n{self.name}: saving; once more to stop at once\n".encode())


def train(
    experiment: Experiment,
    source: Any,
    workdir: pathlib.Path,
    evaluators: Mapping[str, Evaluator] = {},
) -> TrainState:
    """Trains to ``config.steps``, from the workdir's latest checkpoint if there is one.

    Otherwise it starts with the parameters that ``config.init_from`` names, or random ones.

    Returns after the last step, or after SIGTERM or Ctrl-C, with everything saved.

    Args:
      experiment: what to train.
      source: clips to train on.
      workdir: for checkpoints, metrics and events; made if missing.
      evaluators: by name.

    Raises:
      ConfigError: the batch does not divide, the workdir is in use or of another run, or
        ``config.init_from`` does not fit.
      Diverged: ``patience_nonfinite`` updates in a row were not finite.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"{jax.process_count()} processes: training runs in one process, on all its devices"
        )
    config, mesh = experiment.config, meshes.data_mesh()
    meshes.check_batch_size(config.batch_size, mesh, config.grad_cache)
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(WorkdirLock(workdir))
        interruption = stack.enter_context(Interruption())
        checkpoints = Checkpoints(workdir, experiment, config.checkpoint)
        stack.enter_context(contextlib.closing(checkpoints))
        state, step, problems = _start(experiment, workdir, checkpoints, mesh)
        writer = MetricsWriter(workdir, step, config.steps, config.batch_size, config.progress)
        stack.enter_context(contextlib.closing(writer))
        run = _Run(experiment, source, evaluators, mesh, checkpoints, writer, workdir)
        run.state, run.step, run.problems = state, step, problems
        if step:
            writer.message(f"continuing from step {step}")
        stack.callback(run.report_problems)
        run.until_done(interruption)
        return run.state


def _start(experiment: Experiment, workdir: pathlib.Path, checkpoints: Checkpoints, mesh):
    """The state to go on from, its finished steps and the problems counted until then."""
    sharding = meshes.everywhere(mesh)
    if checkpoints.latest is None:
        given = init_from.read(experiment)
        if given is not None:
            print(given.report)
        provenance.note_start(workdir, 0, init_from=given and given.origin)
        init = jax.jit(experiment.init, out_shardings=sharding)
        state = init(experiment.config.seed)
        if given is not None:
            state = jax.device_put(given.fill(state), sharding)
        return state, 0, collections.Counter()
    state, position = checkpoints.restore(sharding)
    provenance.note_start(workdir, position["next_step"])
    return state, position["next_step"], collections.Counter(position["problems"])


class _Step(NamedTuple):
    """A step that was started and whose metrics may still be on their way."""

    number: int
    metrics: dict[str, jax.Array]
    batch: dict[str, np.ndarray]


class _Run:
    """A run in progress. Metrics are fetched one step late, so that the device never waits."""

    def __init__(self, experiment, source, evaluators, mesh, checkpoints, writer, workdir):
        self.experiment, self.config, self.source = experiment, experiment.config, source
        self.evaluators, self.mesh, self.checkpoints = evaluators, mesh, checkpoints
        self.writer, self.workdir = writer, workdir
        self.train_step = make_train_step(experiment, mesh)
        self.pending: _Step | None = None

    def until_done(self, interruption: Interruption) -> None:
        batches = self._batches()
        while self.step < self.config.steps and not interruption.name:
            batch = next(batches)
            device_batch = meshes.put_batch(
                {k: v for k, v in batch.items() if k not in pipeline.HOST_ONLY}, self.mesh
            )
            self.state, metrics = self.train_step(self.state, device_batch)
            self.step += 1
            previous, self.pending = self.pending, _Step(self.step, metrics, batch)
            if previous is not None:
                self._report(previous)
            self._evaluate_and_save()
        self._finish_reports()
        self._save()
        self.checkpoints.wait()
        if interruption.name and self.step < self.config.steps:
            self.writer.message(
                f"{interruption.name}: stopped at step {self.step} of {self.config.steps}, saved. "
                "To continue, start the same command again."
            )

    def report_problems(self) -> None:
        """Prints what was masked or left out, by reason."""
        for what, counts in (
            ("bad input, in clips read", self.problems),
            ("left out when the corpus was opened", self.source.report),
        ):
            if counts:
                listed = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
                print(f"{what}: {listed}")

    def _batches(self):
        data = self.config.data
        return pipeline.training_batches(
            self.experiment.assemble(self.source),
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            start_step=self.step,
            workers=data.workers,
            threads=data.threads,
            prefetch=data.prefetch,
        )

    def _evaluate_and_save(self) -> None:
        due = {
            name: evaluator
            for name, evaluator in self.evaluators.items()
            if evaluator.due(self.step, self.config.steps)
        }
        if due or self.checkpoints.due(self.step):
            scores = self._evaluate(due)
            self._finish_reports(scores)
            with self.writer.paused():
                self._save(scores)

    def _evaluate(self, due: Mapping[str, Evaluator]) -> dict[str, float]:
        jax.block_until_ready(self.pending.metrics)
        try:
            with self.writer.paused():
                return {
                    f"{name}/{metric}": float(value)
                    for name, evaluator in due.items()
                    for metric, value in evaluator.run(self.state).items()
                }
        except Exception:
            # A fault of an evaluation must not cost the training since the last save.
            self._finish_reports()
            self._save()
            raise

    def _finish_reports(self, scores: Mapping[str, float] = {}) -> None:
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self._report(pending, scores)

    def _report(self, done: _Step, scores: Mapping[str, float] = {}) -> None:
        metrics = self._write(done, scores)
        if metrics["nonfinite_run"] >= self.config.patience_nonfinite:
            self._give_up(done, metrics)

    def _write(self, done: _Step, scores: Mapping[str, float] = {}) -> dict[str, float]:
        """Writes the line of a step, waiting for its metrics if need be."""
        metrics = {name: float(value) for name, value in jax.device_get(done.metrics).items()}
        self.problems += pipeline.count_problems(done.batch["problems"])
        counts = {f"bad_input/{reason}": n for reason, n in sorted(self.problems.items())}
        counts |= {f"left_out/{reason}": n for reason, n in sorted(self.source.report.items())}
        self.writer.write(done.number, {**metrics, **counts, **scores})
        return metrics

    def _give_up(self, done: _Step, metrics: Mapping[str, float]) -> NoReturn:
        if self.pending is not None:
            # The step after it has begun, so it is part of the state that is saved.
            self._write(self.pending)
        self._save()
        self.checkpoints.wait()
        clips = ", ".join(self.source[int(i)].clip_id for i in done.batch["record"][:8])
        raise Diverged(
            f"loss or gradient not finite in {int(metrics['nonfinite_run'])} updates in a row, "
            f"the last at step {done.number} with clips {clips}, ...; the last good state is saved "
            f"in {self.workdir}. Look at these clips, or start anew, in another workdir, with a "
            "lower optimizer.learning_rate."
        )

    def _save(self, scores: Mapping[str, float] | None = None) -> None:
        self.writer.flush()
        position = {"next_step": self.step, "problems": dict(self.problems)}
        self.checkpoints.save(self.step, self.state, position, scores)
