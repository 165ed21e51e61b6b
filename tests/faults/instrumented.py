"""``fgmm.main`` that a test can look into, and whose batches it can spoil; by the environment:

=============  ===================================================================================
RECORDS        a folder: for every batch its number and its clips, a line each, by process
EVALUATING     a file that is there while an evaluation runs
PAUSE          seconds before every batch, so that moments lie apart
NAN_STEPS      numbers of steps, with commas: their sound is not a number
NEVER_COMES    the number of a process that never gets to where it meets the others
=============  ===================================================================================
"""

import json
import os
import pathlib
import sys
import time
from unittest import mock

import numpy as np

from fgmm import command_line, main
from fgmm.data import stream
from fgmm.eval import inside_training
from fgmm.experiment import build as experiments
from fgmm.experiment.evaluator import Evaluator

WANTED = {
    name: os.environ.get(name, "")
    for name in ("RECORDS", "EVALUATING", "PAUSE", "NAN_STEPS", "NEVER_COMES")
}

_batches = stream.training_batches
_evaluators = inside_training.from_config


def batches(assembler, *, start_step=0, process=0, **options):
    """As ``stream.training_batches``."""
    spoiled = [int(step) for step in WANTED["NAN_STEPS"].split(",") if step]
    given = _batches(assembler, start_step=start_step, process=process, **options)
    for step, batch in enumerate(given, start_step + 1):
        time.sleep(float(WANTED["PAUSE"] or 0))
        if step in spoiled:
            batch["audio"] = np.full_like(batch["audio"], np.nan)
        if WANTED["RECORDS"]:
            path = pathlib.Path(WANTED["RECORDS"]) / f"{process}.jsonl"
            with path.open("a") as file:
                file.write(json.dumps([step, batch["record"].tolist()]) + "\n")
        yield batch


def evaluators(built):
    """As ``inside_training.from_config``."""

    def marked(run):
        def evaluate(state):
            mark = pathlib.Path(WANTED["EVALUATING"])
            mark.touch()
            try:
                return run(state)
            finally:
                mark.unlink()

        return evaluate

    found = _evaluators(built)
    if not WANTED["EVALUATING"]:
        return found
    return {name: Evaluator(each.every, marked(each.run)) for name, each in found.items()}


def never_comes(config):
    """In place of ``experiment.build``: alive, but gone."""
    del config
    time.sleep(10_000)


if __name__ == "__main__":
    index = command_line.given("process_index")
    absent = index and index == WANTED["NEVER_COMES"]
    with (
        mock.patch.object(stream, "training_batches", batches),
        mock.patch.object(inside_training, "from_config", evaluators),
        mock.patch.object(experiments, "build", never_comes if absent else experiments.build),
    ):
        sys.exit(command_line.run(main.main))
