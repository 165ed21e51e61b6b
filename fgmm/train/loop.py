"""The training loop: knows neither which losses nor which evaluations it runs."""

import collections
import dataclasses
import pathlib
import signal
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from fgmm.data import pipeline
from fgmm.experiment import Experiment
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
        for known, handler in self._before.items():
            signal.signal(known, handler)


def train(
    experiment: Experiment,
    source: Any,
    workdir: pathlib.Path,
    evaluators: Mapping[str, Evaluator] = {},
) -> TrainState:
    """Trains to ``config.steps``, from the workdir's latest checkpoint if there is one.

    Returns after the last step, or after SIGTERM or Ctrl-C, with everything saved.

    Args:
      experiment: what to train.
      source: clips to train on.
      workdir: for checkpoints, metrics and events; made if missing.
      evaluators: by name.

    Raises:
      ConfigError: the batch does not divide, or the workdir is in use or of another run.
      Diverged: ``patience_nonfinite`` updates in a row were not finite.
    """
    mesh = meshes.data_mesh()
    meshes.check_batch_size(experiment.config.batch_size, mesh)
    workdir.mkdir(parents=True, exist_ok=True)
    with WorkdirLock(workdir), Interruption() as interruption:
        run = _Run(experiment, source, workdir, mesh, evaluators)
        try:
            run.until_done(interruption)
        finally:
            run.close()
        return run.state


class _Run:
    """A run in progress. Metrics are fetched one step late, so that the device never waits."""

    def __init__(self, experiment, source, workdir, mesh, evaluators):
        config = experiment.config
        self.config, self.source, self.mesh, self.evaluators = config, source, mesh, evaluators
        self.workdir = workdir
        self.checkpoints = Checkpoints(workdir, experiment, config.checkpoint)
        self.problems = collections.Counter()
        self.step = 0
        if self.checkpoints.latest is None:
            init = jax.jit(experiment.init, out_shardings=meshes.everywhere(mesh))
            self.state = init(config.seed)
        else:
            self.state, position = self.checkpoints.restore(meshes.everywhere(mesh))
            self.step = position["next_step"]
            self.problems.update(position["problems"])
        self.writer = MetricsWriter(
            workdir, self.step, config.steps, config.batch_size, config.progress
        )
        if self.step:
            self.writer.message(f"continuing from step {self.step}")
        self.train_step = make_train_step(experiment, mesh)
        self.assemble = experiment.assemble(source)
        self.pending: tuple[int, dict, dict[str, np.ndarray]] | None = None

    def until_done(self, interruption: Interruption) -> None:
        batches = self._batches()
        while self.step < self.config.steps and not interruption.name:
            batch = next(batches)
            device_batch = meshes.put_batch(
                {k: v for k, v in batch.items() if k not in pipeline.HOST_ONLY}, self.mesh
            )
            self.state, metrics = self.train_step(self.state, device_batch)
            self.step += 1
            self._report()
            self.pending = (self.step, metrics, batch)
            self._evaluate_and_save()
        self._report()
        self._save()
        if interruption.name and self.step < self.config.steps:
            self.writer.message(
                f"{interruption.name}: stopped at step {self.step} of {self.config.steps}, saved. "
                "To continue, start the same command again."
            )

    def close(self) -> None:
        self.checkpoints.close()
        self.writer.close()
        if self.problems:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self.problems.items()))
            print(f"bad input, in clips read: {counts}")
        if self.source.report:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self.source.report.items()))
            print(f"left out when the corpus was opened: {counts}")

    def _batches(self):
        data = self.config.data
        return pipeline.training_batches(
            self.assemble,
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            start_step=self.step,
            process=jax.process_index(),
            processes=jax.process_count(),
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
        scores = {
            f"{name}/{metric}": float(value)
            for name, evaluator in due.items()
            for metric, value in evaluator.run(self.state).items()
        }
        if scores or self.checkpoints.due(self.step):
            self._report(scores)
            self._save(scores)
            self.writer.pause()

    def _report(self, scores: Mapping[str, float] = {}) -> None:
        """Writes the metrics of the pending step, waiting for it if need be."""
        if self.pending is None:
            return
        (step, metrics, batch), self.pending = self.pending, None
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.problems += pipeline.count_problems(batch["problems"])
        counts = {f"bad_input/{reason}": n for reason, n in sorted(self.problems.items())}
        self.writer.write(step, {**metrics, **counts, **scores})
        if metrics["nonfinite_run"] >= self.config.patience_nonfinite:
            self._save()
            clips = ", ".join(self.source[int(i)].clip_id for i in batch["record"][:8])
            raise Diverged(
                f"loss or gradient not finite in {int(metrics['nonfinite_run'])} updates in a row, "
                f"the last at step {step} with clips {clips}, ...; the last good state is saved in "
                f"{self.workdir}. Look at these clips, or lower optimizer.learning_rate."
            )

    def _save(self, scores: Mapping[str, float] | None = None) -> None:
        self.writer.flush()
        position = {"next_step": self.step, "problems": dict(self.problems)}
        self.checkpoints.save(self.step, self.state, position, scores)
