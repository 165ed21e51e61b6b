"""The training loop. It does not know the losses and evaluations that it runs.

All processes run the same steps together. Every branch depends on values that are equal on all
processes: the step number, the metrics, or what the processes told each other.
"""

import collections
import contextlib
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.data import pipeline, stream
from fgmm.data.fingerprint import Fingerprint
from fgmm.data.schema import REASONS
from fgmm.experiment.build import Experiment
from fgmm.experiment.evaluator import Evaluator
from fgmm.experiment.state import TrainState
from fgmm.interruption import NUMBERS, Interrupted, Interruption
from fgmm.train import (
    checkpoint,
    corpus,
    distributed,
    feed,
    init_from,
    log_sinks,
    sharding,
    startup,
)
from fgmm.train import mesh as meshes
from fgmm.train.checkpoint import Checkpoints, WorkdirLock
from fgmm.train.disk_space import full_disk_named
from fgmm.train.feed import Feed
from fgmm.train.loggers import Run
from fgmm.train.metrics_writer import MetricsWriter, NoWriter
from fgmm.train.prefetch import Prefetch
from fgmm.train.profile import Profile
from fgmm.train.speed import Speed, peak_flops, step_flops
from fgmm.train.step import make_train_step
from fgmm.train.watchdog import Watchdog

# The key of the evaluations in a checkpoint's position that its step still lacks.
_UNFINISHED = "evaluations"


class Diverged(RuntimeError):
    """Too many updates in a row were not finite; the last good state is saved."""


def train(
    experiment: Experiment,
    source: Any,
    workdir: pathlib.Path,
    evaluators: Mapping[str, Evaluator] = {},
    profile: str = "",
) -> TrainState:
    """Trains to ``config.steps``, from the workdir's latest checkpoint if there is one.

    Without a checkpoint, training starts from the parameters that ``config.init_from`` names, or
    from random ones.

    Args:
      experiment: what to train.
      source: the corpus to train on, as from ``experiment.training_source``.
      workdir: for checkpoints, metrics and events; created if missing.
      evaluators: by name.
      profile: the steps to trace, as for ``fgmm.train.profile.Profile``.

    Returns:
      The state after the last step, when everything is saved.

    Raises:
      ConfigError: the devices cannot share the batch evenly, the workdir is in use or of another
        run, ``config.init_from`` does not fit, a rule on learning rates matches nothing, the
        objective has no term, the corpus differs from that of the checkpoint or of another process,
        the tokenizer knows no piece of its captions, the run has no steps ``profile``, or a logger
        cannot be made.
      Interrupted: after SIGTERM or Ctrl-C before the last step, with everything saved. All
        processes stop after the same step, whichever got the signal.
      Diverged: ``patience_nonfinite`` updates in a row were not finite.
      DiskFull: there was no space to write a checkpoint or a metric.
      PeerFailed: another process failed.
    """
    config = experiment.config
    with distributed.all_or_none():
        if not experiment.objective.terms:
            raise ConfigError("objective.terms is empty; name at least one loss to train by")
        mesh = meshes.make_mesh(fsdp=config.mesh.fsdp)
        meshes.check_batch_size(
            config.batch_size, mesh, accumulate=config.accumulate, grad_cache=config.grad_cache
        )
        startup.check_end_token(experiment)
        blank = experiment.abstract_state
        experiment.optimizer.check_matches(blank.params, blank.statistics)
        shardings = sharding.of_state(experiment, mesh)
        trace = Profile(profile, config.steps, workdir / "profile")
        loggers = log_sinks.from_config(config)
    with contextlib.ExitStack() as stack:
        # The watchdog comes first, so it still runs while everything else closes: closing may wait
        # for a disk or for other processes.
        watchdog = stack.enter_context(Watchdog(config.watchdog_seconds))
        fingerprint = corpus.same_everywhere(source)
        with distributed.all_or_none():
            text_lines = startup.text_lines(experiment.assembler(source))
        stack.enter_context(full_disk_named(workdir, workdir / checkpoint.FOLDER))
        stack.enter_context(WorkdirLock(workdir))
        interruption = stack.enter_context(Interruption("saving; once more to stop at once"))
        with distributed.all_or_none():
            checkpoints = Checkpoints(workdir, experiment, config.checkpoint)
        stack.enter_context(contextlib.closing(checkpoints))
        restored = checkpoints.restore(shardings)
        watchdog.alive()
        with distributed.all_or_none():
            state, position = _start(experiment, workdir, restored, shardings, fingerprint)
        step, unfinished = position["next_step"], position.get(_UNFINISHED)
        watchdog.alive()
        distributed.say(startup.summary(experiment, mesh, state))
        too_few = feed.too_few(source, config.batch_size // config.accumulate)
        for line in (*text_lines, *too_few):
            distributed.say(line)
        speed = _speed(experiment, mesh)
        writer = NoWriter()
        if distributed.primary():
            written = step - 1 if unfinished else step
            sinks = log_sinks.LogSinks(loggers, Run(workdir, config, written))
            writer = MetricsWriter(workdir, written, config.steps, speed, config.progress, sinks)
        stack.enter_context(contextlib.closing(writer))
        stack.enter_context(contextlib.closing(trace))
        run = _Run(experiment, source, evaluators, mesh, checkpoints, writer, workdir)
        run.speed, run.trace, run.interruption = speed, trace, interruption
        run.state, run.step = state, step
        run.problems = collections.Counter(position["problems"])
        run.first = step
        run.fingerprint = fingerprint
        if step:
            writer.message(f"continuing from step {step}")
        stack.callback(run.report_problems)
        run.watchdog = watchdog
        if unfinished:
            run.make_up(unfinished)
        run.until_done()
        return run.state


def _start(
    experiment: Experiment,
    workdir: pathlib.Path,
    restored: tuple[TrainState, Mapping[str, Any]] | None,
    shardings: TrainState,
    fingerprint: Fingerprint,
) -> tuple[TrainState, Mapping[str, Any]]:
    """The state to start from, and its position; see ``_Run._position``."""
    if restored is None:
        given = init_from.read(experiment)
        if given is not None:
            distributed.say(given.report)
        _note_start(workdir, 0, init_from=given and given.origin)
        state = experiment.initial_state(shardings)
        if given is not None:
            state = jax.device_put(given.fill(state), shardings)
        return state, {"next_step": 0, "problems": {}}
    state, position = restored
    if position["next_step"] < experiment.config.steps:
        accept = experiment.config.data.accept_changes
        corpus.check_unchanged(position, fingerprint, workdir, accept)
    _note_start(workdir, position["next_step"])
    return state, position


def _note_start(workdir: pathlib.Path, step: int, **origin: Any) -> None:
    if distributed.primary():
        provenance.note_start(workdir, step, **origin)


def _speed(experiment: Experiment, mesh: Mesh) -> Speed:
    config = experiment.config
    peak = peak_flops(mesh.devices.flat[0].device_kind)
    flops = functools.partial(step_flops, experiment)
    return Speed(config.batch_size, config.steps, flops, peak and peak * mesh.size)


class _Step(NamedTuple):
    """A step that was started; the device may still compute its metrics.

    Attributes:
      number: of the step, from 1.
      metrics: on the device.
      fed: the counts of ``fgmm.train.feed`` for its batch, summed over all processes.
      problems: bad input among its clips by reason, summed over all processes.
      records: indices of its clips in the source, of this process's share.
    """

    number: int
    metrics: dict[str, jax.Array]
    fed: dict[str, int]
    problems: collections.Counter[str]
    records: np.ndarray


class _Run:
    """A run in progress. Metrics are fetched one step late, so that the device never waits."""

    def __init__(self, experiment, source, evaluators, mesh, checkpoints, writer, workdir):
        self.experiment, self.config, self.source = experiment, experiment.config, source
        self.evaluators, self.mesh, self.checkpoints = evaluators, mesh, checkpoints
        self.writer, self.workdir = writer, workdir
        self.train_step = make_train_step(experiment, mesh)
        self.sum = distributed.Sum(mesh)
        self.feed = Feed(experiment.objective, experiment.tokenizer)
        self.stopping, self.save_due = None, False
        self.pending: _Step | None = None
        # The evaluations that are due after this step and have no result, and the step's metrics.
        self.due: list[str] = []
        self.line: dict[str, float] = {}

    def make_up(self, unfinished: Mapping[str, Any]) -> None:
        """Runs the evaluations that the restored step lacks.

        Args:
          unfinished: the names of evaluations as ``due``, and the metrics of the step as ``line``.
        """
        # An evaluation may be gone from the config.
        self.due = [name for name in unfinished["due"] if name in self.evaluators]
        self.line = dict(unfinished["line"])
        if self.due:
            self.writer.message(f"step {self.step} is still to be evaluated: {', '.join(self.due)}")
        self._listen()
        self._evaluate()

    def until_done(self) -> None:
        """Runs all steps that are left, or stops after one, and saves.

        Raises:
          Interrupted: a process got a signal before the last step, or before its evaluations.
          Diverged: too many updates in a row were not finite.
        """
        with self._batches() as batches:
            while self.step < self.config.steps and not self.stopping:
                self._one_step(batches)
        self._finish_reports()
        self._save()
        self.checkpoints.wait()
        if self.stopping and (self.due or self.step < self.config.steps):
            left = f", still to be evaluated ({', '.join(self.due)})" if self.due else ""
            raise Interrupted(
                self.stopping,
                f"stopped at step {self.step} of {self.config.steps}, saved{left}. To continue, "
                "start the same command again.",
            )

    def _one_step(self, batches: Prefetch) -> None:
        self.trace.follow(self.step, self.pending and self.pending.metrics)
        with self.speed.waiting():
            batch, device_batch = next(batches)
        # Started before the step, so that reading the sum afterwards does not wait for the step.
        told = self._tell(batch)
        with jax.profiler.StepTraceAnnotation("train", step_num=self.step):
            self.state, metrics = self.train_step(self.state, device_batch)
        self.step += 1
        self.due = [
            name
            for name, evaluator in self.evaluators.items()
            if evaluator.due(self.step, self.config.steps)
        ]
        fed, problems = self._hear(told)
        previous = self.pending
        self.pending = _Step(self.step, metrics, fed, problems, batch["record"])
        if previous is not None:
            self._report(previous)
        else:
            self._report_starved()
        if self.due:
            self._evaluate_pending()
        elif self.save_due:
            self._finish_reports()
            with self.speed.paused():
                self._save()

    def _tell(self, batch: Mapping[str, Any]) -> Any:
        """Starts the sum over processes: requests to stop or save, fed counts and bad input."""
        found = pipeline.count_problems(batch["problems"])
        stop = [self.interruption.number == number for number in NUMBERS]
        wishes = [*stop, self.checkpoints.due(self.step + 1)]
        problems = [found[reason] for reason in REASONS]
        return self.sum(np.array([*wishes, *batch["fed"], *problems], np.int32))

    def _hear(self, told: Any) -> tuple[dict[str, int], collections.Counter[str]]:
        """Waits for that sum and notes the requests; returns the fed counts and the bad input."""
        term, ctrl_c, save, *counts = np.asarray(told).tolist()
        asked = zip(NUMBERS, (term, ctrl_c), strict=True)
        self.stopping = next((number for number, processes in asked if processes), None)
        self.save_due = save > 0
        names = self.feed.names
        fed = dict(zip(names, counts[: len(names)], strict=True))
        self.feed.add(fed)
        problems = dict(zip(REASONS, counts[len(names) :], strict=True))
        return fed, collections.Counter({reason: n for reason, n in problems.items() if n})

    def _report_starved(self) -> None:
        for line in self.feed.starved():
            self.writer.message(line)

    def report_problems(self) -> None:
        """Prints what was masked or left out, by reason."""
        for what, counts in (
            ("bad input, in clips read", self.problems),
            ("left out when the corpus was opened", self.source.report),
        ):
            if counts:
                listed = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
                self.writer.message(f"{what}: {listed}")
        if self.pending is None and self.step > self.first:
            self._report_starved()

    def _batches(self) -> Prefetch:
        """Iterates over batches as pairs: arrays that stay on the host, and arrays on the device.

        The first also holds the counts of ``fgmm.train.feed`` as ``fed``.
        """
        data = self.config.data
        batches = stream.training_batches(
            self.experiment.assembler(self.source, training=True),
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            start_step=self.step,
            process=jax.process_index(),
            processes=jax.process_count(),
            workers=data.workers,
            threads=data.threads,
            prefetch=data.prefetch,
        )

        def put(batch):
            fed = self.feed.counts(batch)
            kept = {name: batch.pop(name) for name in pipeline.HOST_ONLY} | {"fed": fed}
            return kept, meshes.put_batch(batch, self.mesh)

        return Prefetch(batches, put, data.device_prefetch)

    def _evaluate_pending(self) -> None:
        done, self.pending = self.pending, None
        self.line = self._line(done)
        self._evaluate()
        self._check_finite(done)

    def _evaluate(self) -> None:
        """Runs the evaluations that are due and writes the line of the step, with their scores.

        The state is saved first, so that whatever ends an evaluation loses no training. If a stop
        is asked for, the evaluations that are left stay due.
        """
        with self.speed.paused():
            self._save()
            try:
                if self.due and not self.stopping:
                    self._evaluate_due()
            except Exception:
                # It waits for no other process, since one that does not answer may be the cause.
                self._note_scores()
                raise
            self._note_scores()
            self.checkpoints.remove_surplus()

    def _evaluate_due(self) -> None:
        state = meshes.replicated(self.state.with_weights(), self.mesh)
        while self.due and not self.stopping:
            self._evaluate_one(self.due[0], state)
            self._listen()

    def _evaluate_one(self, name: str, state: TrainState) -> None:
        evaluator = self.evaluators[name]
        # All processes run it and share the work; the numbers of process 0 count.
        with distributed.all_or_none():
            mine = {metric: float(value) for metric, value in evaluator.run(state).items()}
        found = distributed.from_primary(lambda: mine)
        scores = {f"{name}/{metric}": value for metric, value in found.items()}
        if evaluator.table is not None:
            table = evaluator.table(found)
            self.writer.message(f"{name}, step {self.step}\n{table}")
        self.checkpoints.kept.check(name, scores)
        self.line |= scores
        self.due.remove(name)
        self.watchdog.alive()

    def _listen(self) -> None:
        """Asks all processes whether one got a signal; between steps ``_tell`` does so."""
        mine = int(self.interruption.number or 0)
        asked = {int(number) for number in distributed.exchange(str(mine))}
        self.stopping = next((number for number in NUMBERS if number in asked), None)

    def _note_scores(self) -> None:
        self.writer.write(self.step, self.line)
        # A start must not find the checkpoint complete and its line missing.
        self.writer.flush()
        self.checkpoints.amend(self._position(), self.line)

    def _finish_reports(self) -> None:
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self._report(pending)

    def _report(self, done: _Step) -> None:
        self._write(done)
        self.watchdog.alive()
        self._check_finite(done)

    def _write(self, done: _Step) -> None:
        self.line = self._line(done)
        self.writer.write(done.number, self.line)

    def _line(self, done: _Step) -> dict[str, float]:
        """The metrics of a step; waits for the device if necessary."""
        metrics = {name: float(value) for name, value in jax.device_get(done.metrics).items()}
        self.problems += done.problems
        counts = {f"bad_input/{reason}": n for reason, n in sorted(self.problems.items())}
        counts |= {f"left_out/{reason}": n for reason, n in sorted(self.source.report.items())}
        counts |= self.feed.metrics(done.fed)
        return {**metrics, **counts, **self.speed.finished(done.number)}

    def _check_finite(self, done: _Step) -> None:
        in_a_row = int(self.line["nonfinite_run"])
        if in_a_row < self.config.patience_nonfinite:
            return
        if self.pending is not None:
            # The next step has started already, and the state to save includes it.
            self._write(self.pending)
        self._save()
        self.checkpoints.wait()
        clips = ", ".join(self.source[int(i)].clip_id for i in done.records[:8])
        raise Diverged(
            f"loss or gradient not finite in {in_a_row} updates in a row, "
            f"the last at step {done.number} with clips {clips}, ...; the last good state is saved "
            f"in {self.workdir}. Look at these clips, or start again, in another workdir, with a "
            "lower optimizer.learning_rate."
        )

    def _save(self) -> None:
        self.writer.flush()
        self.checkpoints.save(self.step, self.state, self._position())

    def _position(self) -> dict[str, Any]:
        """What a start must know beside the state.

        Until a step has all its evaluations, its metrics are there too: its line may be missing
        from ``metrics.jsonl``, or lack their scores.
        """
        position = {
            "next_step": self.step,
            "problems": dict(self.problems),
            corpus.KEY: self.fingerprint,
        }
        if self.due:
            position[_UNFINISHED] = {"due": list(self.due), "line": dict(self.line)}
        return position
