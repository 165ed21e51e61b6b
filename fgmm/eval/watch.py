"""Evaluates each new checkpoint of a run once, and ends with the run.

    python -m fgmm.eval.watch --workdir=RUN --config=eval/retrieval:corpus=...

It runs beside the trainer, on other devices or another host that sees the workdir. Results are
lines of ``RUN/watch/LABEL.jsonl`` and TensorBoard events in ``RUN/events/watch_LABEL``, with the
names that they would have inside training, ``LABEL/NAME``. After a kill, the same command continues
with the checkpoints that have no line yet. The file ``RUN/watch/LABEL.json`` holds the protocol.

It waits for the first checkpoint. It ends when it has evaluated the checkpoint of the run's last
step, or when no new checkpoint has come for ``--patience`` minutes. The newest checkpoint comes
first, so that the results keep up with the run. Checkpoints that the run removes before that are
not evaluated.
"""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from absl import flags

from fgmm import command_line, components
from fgmm.config import ConfigError, as_dict
from fgmm.eval import binary


class Results:
    """The results of one protocol: a line and events for each checkpoint.

    Args:
      workdir: of the run.
      label: the name of the protocol.
      protocol: the entry of the evaluation.

    Attributes:
      steps: of the checkpoints that have a line.

    Raises:
      ConfigError: the file holds lines of another protocol, or cannot be written.
    """

    def __init__(self, workdir: pathlib.Path, label: str, protocol: Mapping[str, Any]):
        from fgmm.train import metrics_writer
        from fgmm.train.events import EventFile

        folder = command_line.folder_to_write(workdir / "watch", "--workdir")
        stated, self._path = folder / f"{label}.json", folder / f"{label}.jsonl"
        # Compared below with what JSON returns, such as lists for tuples.
        protocol = json.loads(json.dumps(protocol))
        if stated.exists() and json.loads(stated.read_text()) != protocol:
            raise ConfigError(
                f"{stated} holds another protocol than --config; remove it and {self._path} to "
                "begin anew, or give the config file another name"
            )
        binary.write(stated, protocol)
        # A kill may have left half a line.
        metrics_writer.cut_back(self._path, sys.maxsize)
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self.steps = {json.loads(line)["step"] for line in lines}
        self._label = label
        events = command_line.folder_to_write(workdir / "events", "--workdir")
        # In TensorBoard a new event file hides the later steps of others in its folder, so each
        # protocol has a folder of its own.
        self._events = EventFile(events / f"watch_{label}", max(self.steps, default=0))

    def add(self, step: int, result: Mapping[str, float], weights: str) -> None:
        """Writes a line and the events of a checkpoint to disk."""
        named = {f"{self._label}/{name}": value for name, value in result.items()}
        finite = {name: x if math.isfinite(x) else None for name, x in named.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "weights": weights, **finite}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.steps.add(step)
        self._events.write(step, named)
        self._events.flush()

    def close(self) -> None:
        """Closes the file of events."""
        self._events.close()


def main(argv: list[str]) -> None:
    """Evaluates until the run has ended."""
    del argv
    workdir = binary.begin()
    config = command_line.required("config")
    label = binary.label_of(command_line.given("config"))
    evaluation = components.build("eval", config, key=label)
    given = flags.FLAGS
    with contextlib.closing(Results(workdir, label, as_dict(config))) as results:
        watch(workdir, evaluation, results, given.weights, given.every, 60 * given.patience)


def watch(
    workdir: pathlib.Path,
    evaluation: Any,
    results: Results,
    weights: str = "",
    every: float = 5.0,
    patience: float = 0.0,
) -> None:
    """Evaluates checkpoints as they come, until the run has ended.

    Args:
      workdir: of the run.
      evaluation: an ``Evaluation`` of a module of ``fgmm.eval``.
      results: takes the results; checkpoints that it has are not evaluated again.
      weights: as in ``checkpoint.load``.
      every: seconds between looks for new checkpoints.
      patience: seconds without a new checkpoint after which it ends; 0 for no limit.
    """
    from fgmm.train import checkpoint, recovery

    bound, last, failed = None, None, set()
    seen = time.monotonic()
    while True:
        steps = recovery.steps(workdir / checkpoint.FOLDER)
        waiting = [step for step in steps if step not in results.steps | failed]
        if not waiting:
            if last is None and steps:
                with contextlib.suppress(ConfigError):  # A damaged one, or just removed.
                    last = checkpoint.config_of(workdir).steps
            if last is not None and max(steps, default=0) >= last:
                print(f"the run has ended, with step {last}")
                return
            if patience and time.monotonic() - seen > patience:
                print(f"no new checkpoint for {patience:g} s; ended")
                return
            time.sleep(every)
            continue
        step = max(waiting)
        try:
            experiment, state = checkpoint.load(workdir, str(step), weights)
        except ConfigError as error:
            # The run may have removed the checkpoint. A damaged one is named and not tried again.
            if step in recovery.steps(workdir / checkpoint.FOLDER):
                print(f"step {step} is left out: {error}", file=sys.stderr, flush=True)
                failed.add(step)
            continue
        # One compiled program serves all checkpoints of a run.
        bound = bound or evaluation.bind(experiment)
        last = experiment.config.steps
        result = bound(binary.on_all_devices(state))
        which = checkpoint.weights_of(workdir, experiment, weights)
        results.add(step, result, which)
        seen = time.monotonic()
        print(f"step {step}, {which} weights\n{evaluation.table(result)}", flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run whose checkpoints are evaluated.")
    flags.DEFINE_string("weights", "", "Which parameters, ema or last, as other evaluations.")
    flags.DEFINE_float("every", 5.0, "Seconds between looks for checkpoints.", lower_bound=0.01)
    flags.DEFINE_float(
        "patience",
        0.0,
        "Minutes without a new checkpoint after which it ends; 0 waits for the last step.",
        lower_bound=0.0,
    )
    command_line.define_config("The protocol, eval/NAME:corpus=CORPUS[,k=v,...] or PATH.py.")
    command_line.run(main)
