"""Turns raw files into sharded ArrayRecord: ``python -m fgmm.data.prepare``; see docs/data.md.

Finished shards stay: the same command continues a run that was interrupted.
"""

import concurrent.futures
import ctypes
import dataclasses
import math
import multiprocessing
import os
import pathlib
import signal
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import tqdm
from absl import flags

from fgmm import command_line
from fgmm.config import ConfigError
from fgmm.data.preparation import raw, shards
from fgmm.data.preparation.disk import OutputFailed, sole_writer
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.plan import settle
from fgmm.data.preparation.report import table
from fgmm.data.preparation.task import Task, open_task

# Seconds between two looks at how far the workers are.
_LOOK = 0.5

# The task of a worker process, and the counter of recordings that all workers share.
_task: Task
_done: Any


def prepare(task: Task, *, workers: int = 0, beam_runner: str = "", beam_options=()) -> str:
    """Writes the shards that are not there yet, and what makes them a dataset.

    Args:
      task: what is to be written.
      workers: processes; 0 for one on each core.
      beam_runner: name of a runner of Apache Beam, which then writes the shards.
      beam_options: of that runner, as ``--name=value``.

    Returns:
      The report, as text.

    Raises:
      ConfigError: the folder is of another preparation, or in use, or cannot be written.
      OutputFailed: writing failed later; finished shards stay.
    """
    with sole_writer(task.output):
        task = dataclasses.replace(task, plan=settle(task.output, task.plan))
        remaining = task.remaining()
        if beam_runner:
            from fgmm.data.preparation import on_beam

            on_beam.write(task, remaining, beam_runner, beam_options)
        else:
            most = workers or len(os.sched_getaffinity(0))
            _write(task, remaining, min(most, max(1, len(remaining))))
        left_out = {split: dict(found.report) for split, found in task.raw.items()}
        return table(shards.complete(task.output, task.plan, left_out), left_out)


def _write(task: Task, remaining: list[tuple[str, int]], workers: int) -> None:
    if not remaining:
        return
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    total = sum(split.records for split in task.plan.splits.values())
    # Recordings in shards that were written before, estimated by the average of a shard.
    before = total - round(total * len(remaining) / len(list(task.plan.shards())))
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, _as_worker, (os.getpid(), task, done)
    )
    try:
        waiting = {pool.submit(_shard, *shard) for shard in remaining}
        with tqdm.tqdm(total=total, initial=before, unit=" recordings", disable=None) as shown:
            while waiting:
                ready, waiting = concurrent.futures.wait(
                    waiting, _LOOK, concurrent.futures.FIRST_COMPLETED
                )
                shown.update(done.value - (shown.n - before))
                for future in ready:
                    future.result()
    except BrokenProcessPool as error:
        raise OutputFailed(
            "a worker process ended, perhaps for lack of memory; run the same command again to go "
            f"on, with fewer than --workers={workers}"
        ) from error
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _as_worker(parent: int, task: Task, done: Any) -> None:
    """A worker ignores Ctrl-C, which its parent handles, and ends when the parent ends."""
    global _task, _done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _task, _done = task, done


def _shard(split: str, shard: int) -> None:
    _task.write(split, shard, advance=_advance)


def _advance() -> None:
    with _done.get_lock():
        _done.value += 1


def verify(output: pathlib.Path) -> Iterator[str]:
    """What is wrong with the shards of a prepared corpus, by their checksums.

    Raises:
      ConfigError: nothing was prepared there, or not to the end.
    """
    yield from shards.damaged(output, shards.read_manifest(output), checksums=True)


def _define_flags() -> None:
    flags.DEFINE_string("source", None, raw.SOURCE_HELP)
    flags.DEFINE_string("input", None, "The folder of the corpus.")
    flags.DEFINE_string("output", None, "The folder to be written.")
    flags.DEFINE_list("splits", [], "Splits to prepare; all that the source has if it is left out.")
    flags.DEFINE_integer(
        "short_side", 0, "Shrink pictures to this shorter side, in pixels; 0: do not."
    )
    flags.DEFINE_float("fps", 0.0, "Encode again at this many pictures a second; 0: do not.")
    flags.DEFINE_float(
        "gop_seconds",
        0.0,
        "Encode again with key frames at most this many seconds apart; 0: do not, or 1 where "
        "pictures are encoded again for another reason.",
    )
    flags.DEFINE_integer(
        "audio_rate", 0, "Turn sound into mono of this rate, such as 16000; 0: do not."
    )
    flags.DEFINE_float(
        "piece_seconds",
        0.0,
        "Cut what is encoded again into records of about this length; 0: do not.",
    )
    flags.DEFINE_float(
        "shard_megabytes", 256.0, "Size of a shard, before anything is encoded again."
    )
    flags.DEFINE_float("time_limit", 600.0, "Seconds for each recording; 0 for none.")
    flags.DEFINE_integer("workers", 0, "Processes; 0 for one on each core.")
    flags.DEFINE_bool("verify", False, "Write nothing; compare the shards with their checksums.")
    flags.DEFINE_string("beam_runner", "", "A runner of Apache Beam, such as DirectRunner.")
    flags.DEFINE_multi_string("beam_option", [], "An option of the runner, --name=value.")


def main(argv: list[str]) -> None:
    """Runs the program."""
    del argv
    given = flags.FLAGS
    output = pathlib.Path(command_line.required("output"))
    try:
        if given.verify:
            _verify(output)
            return
        for name in ("workers", "shard_megabytes", "time_limit"):
            if not 0 <= given[name].value < math.inf:
                raise ConfigError(f"--{name}={given[name].value} must be at least 0, and finite")
        source, root = command_line.required("source"), command_line.required("input")
        asked = ("short_side", "fps", "gop_seconds", "audio_rate", "piece_seconds")
        encoding = Encoding(**{name: given[name].value for name in asked})
        task = open_task(
            source,
            root,
            output,
            splits=given.splits,
            encoding=encoding,
            time_limit=given.time_limit,
            shard_megabytes=given.shard_megabytes,
        )
        runner = {"beam_runner": given.beam_runner, "beam_options": given.beam_option}
        print(prepare(task, workers=given.workers, **runner), end="")
    except OutputFailed as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(f"written to {output}")


def _verify(output: pathlib.Path) -> None:
    damaged = list(verify(output))
    for line in damaged:
        print(line)
    if damaged:
        sys.exit(f"error: {len(damaged)} damaged shards in {output}; delete them and prepare again")
    print(f"all shards of {output} are as they were written")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
