"""Several processes as one run: they find each other, agree, and end together.

All processes run the same command. Process 0 prints, locks the workdir and writes everything in it
but the checkpoints, which all processes write together. The others print only their own failures.

Outside the step, processes exchange text through the coordination service of ``jax.distributed``,
which runs in process 0. It notices within ``heartbeat_timeout`` that a process is gone, and ends
the others.
"""

import contextlib
import itertools
import json
import os
import pathlib
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from fgmm import provenance
from fgmm.command_line import WRONG_COMMAND
from fgmm.config import Config, ConfigError, as_dict, flat
from fgmm.config.option import shortened
from fgmm.train.coordination import key_value_client
from fgmm.train.mesh import by_clip, everywhere

# Seconds for processes to start.
_START_TIMEOUT = 300
# Seconds for all processes to come to the same point, while some may be reading a corpus or
# evaluating. A process that died is noticed earlier.
MEETING_TIMEOUT = 3600

_meeting_timeout = MEETING_TIMEOUT
_numbers = itertools.count()


class PeerFailed(RuntimeError):
    """Another process failed or did not come, and the config is not the cause."""


def initialise(
    coordinator_address: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
    *,
    heartbeat_timeout: int = 60,
    meeting_timeout: int = MEETING_TIMEOUT,
) -> None:
    """Joins the other processes, if there are any. Call it before JAX computes anything.

    Without arguments JAX looks for them in the environment: it knows SLURM (``srun``), TPU and Open
    MPI (``mpirun``). If it finds none, this process runs alone.

    Args:
      coordinator_address: of process 0, ``"host:port"``.
      process_count, process_index: the number of processes, and the index of this one, from 0.
      heartbeat_timeout: seconds after which a silent process counts as lost.
      meeting_timeout: seconds to wait for a live process at a common point before it counts as
        lost. At the start, the wait is at most 300 seconds.

    Raises:
      ConfigError: only some of the first three are given, one is wrong, or the other processes were
        not found.
    """
    given = {
        "coordinator_address": coordinator_address,
        "process_count": process_count,
        "process_index": process_index,
    }
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < 3:
        raise ConfigError(f"--{missing[0]} is missing; give --{', --'.join(given)} or none of them")
    if not missing and not 0 <= process_index < process_count:
        raise ConfigError(
            f"--process_index={process_index} must be from 0 to {process_count - 1} "
            f"(--process_count={process_count})"
        )
    global _meeting_timeout
    _meeting_timeout = meeting_timeout
    start_timeout = min(_START_TIMEOUT, meeting_timeout)
    # JAX would handle SIGTERM itself; the loop has a handler, and processes agree at each step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address,
            process_count,
            process_index,
            # Cluster detection would hide local devices from a process that was started by hand.
            cluster_detection_method=None if missing else "deactivate",
            initialization_timeout=start_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
            shutdown_timeout_seconds=heartbeat_timeout,
        )
    except ValueError as error:
        if not missing or "should be defined" not in str(error):
            raise ConfigError(f"--coordinator_address={coordinator_address}: {error}") from error
    except RuntimeError as error:
        who = (
            "the processes that the environment names did not meet"
            if missing
            else f"process {process_index} of {process_count} did not meet the others at "
            f"{coordinator_address}"
        )
        why = str(error).partition("\n")[0]
        raise ConfigError(f"{who} within {start_timeout} s: {why}") from error


def primary() -> bool:
    """Whether this is process 0, which prints and writes for all."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints on process 0."""
    if primary():
        print(text, flush=True)


def exchange(text: str) -> list[str]:
    """Sends a text to all processes; returns the texts of all, in the order of processes.

    It waits until every process has called it.

    Raises:
      PeerFailed: a process did not call it within ``meeting_timeout``.
    """
    if jax.process_count() == 1:
        return [text]
    client, folder = key_value_client(), f"fgmm/{next(_numbers)}"
    client.key_value_set(f"{folder}/{jax.process_index()}", text)
    try:
        client.wait_at_barrier(folder, 1000 * _meeting_timeout)
    except jax.errors.JaxRuntimeError as error:
        missing = sorted(set(range(jax.process_count())) - set(_said(client, folder)))
        if not missing:
            raise
        raise PeerFailed(
            f"process {', '.join(map(str, missing))} of {jax.process_count()} did not reach the "
            f"point where the others wait within {_meeting_timeout} s (--meeting_timeout); see its "
            "output"
        ) from error
    said = _said(client, folder)
    return [said[index] for index in range(jax.process_count())]


def _said(client: Any, folder: str) -> dict[int, str]:
    return {int(key.rpartition("/")[2]): value for key, value in client.key_value_dir_get(folder)}


def _in_words(error: BaseException | None) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """If one process fails in the body, all processes learn of it and raise.

    Every process has to enter it.

    Raises:
      ConfigError: as raised, here or in another process.
      PeerFailed: another process raised anything else.
    """
    if jax.process_count() == 1:
        yield
        return
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    wrong = isinstance(failure, ConfigError)
    text = str(failure) if wrong else _in_words(failure)
    said = exchange("" if failure is None else json.dumps([wrong, text]))
    if failure is not None:
        raise failure
    for index, message in enumerate(said):
        if message:
            wrong, text = json.loads(message)
            where = f"process {index} of {jax.process_count()}: {text}"
            raise ConfigError(where) if wrong else PeerFailed(where)


def from_primary(compute: Callable[[], Any]) -> Any:
    """Runs ``compute`` on process 0 and returns its result, which must be JSON, on every process.

    Raises:
      Exception: as ``all_or_none``.
    """
    result = None
    with all_or_none():
        if primary():
            result = compute()
    return json.loads(exchange(json.dumps(result))[0]) if jax.process_count() > 1 else result


def check_agreement(config: Config, workdir: pathlib.Path, commit: str | None) -> None:
    """Compares config, workdir, code and versions with those of process 0.

    Args:
      config: of this process, resolved.
      workdir: of this process.
      commit: of the code; None if it is unknown.

    Raises:
      ConfigError: a process differs from process 0; the first differences are named.
    """
    mine = {
        "--workdir": str(workdir.absolute()),
        "commit": commit,
        "code of fgmm": provenance.code_digest(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        **{f"config.{key}": value for key, value in flat(as_dict(config)).items()},
    }
    theirs = from_primary(lambda: mine)
    with all_or_none():
        different = [
            f"{key} is {mine.get(key)!r} here and {theirs.get(key)!r} on process 0"
            for key in {**theirs, **mine}
            if mine.get(key) != theirs.get(key)
        ]
        if different:
            raise ConfigError(f"{shortened(different, 3)}: start the same on every process")


class Sum:
    """Adds up integers over all processes, without waiting for the device.

    With one process nothing is computed. Every process has to call it equally often.

    Args:
      mesh: of all devices.
    """

    def __init__(self, mesh: Mesh):
        self._mesh, self._alone = mesh, jax.process_count() == 1
        self._add = jax.jit(lambda rows: rows.sum(axis=0), out_shardings=everywhere(mesh))

    def __call__(self, numbers: np.ndarray) -> np.ndarray | jax.Array:
        """Starts the sum of the numbers, int32 [n]; ``np.asarray`` of the result waits for it."""
        if self._alone:
            return numbers
        rows = np.zeros((jax.local_device_count(), len(numbers)), np.int32)
        rows[0] = numbers
        return self._add(jax.make_array_from_process_local_data(by_clip(self._mesh), rows))


def run_together(program: Callable[[], None]) -> None:
    """Runs a program on every process. A ``ConfigError`` is raised only on process 0; the others
    exit silently.

    Raises:
      Exception: as ``program``, if there is one process. A process among several exits at once
        instead, and leaves a note of the cause.
    """
    try:
        program()
    except ConfigError:
        if primary():
            raise
        sys.exit(WRONG_COMMAND)
    except Exception as error:
        if jax.process_count() == 1:
            raise
        _end_alone(error)


def _end_alone(error: BaseException) -> NoReturn:
    """Exits a process that failed while others may be waiting for it.

    It leaves a note of the cause, which process 0 prints if it fails in turn. A normal exit would
    wait for the other processes, which wait for this one.
    """
    traceback.print_exception(error)
    with contextlib.suppress(Exception):
        client, mine = key_value_client(), jax.process_index()
        client.key_value_set(f"fgmm/failed/{mine}", _in_words(error))
        if mine == 0:
            time.sleep(1)  # for the notes of processes that may have caused this failure
            for index, note in _said(client, "fgmm/failed").items():
                if index != 0:
                    print(f"process {index} failed: {note}", file=sys.stderr)
        print(
            f"error: process {mine} of {jax.process_count()} ends, and the others with it; if it "
            "was not the first to fail, the cause is in the output of another",
            file=sys.stderr,
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
