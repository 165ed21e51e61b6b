"""Finds the checkpoint to resume from, the newest that can be read, and sets damaged ones aside.

A kill leaves only intact checkpoints, since Orbax writes under another name and renames at the end.
A loss of power, a broken disk or a person may leave files that are cut short or missing.
"""

import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from fgmm.config import ConfigError
from fgmm.train import distributed

# The folder of damaged checkpoints, beside that of the others.
DAMAGED = "damaged"


class Recovery(NamedTuple):
    """The checkpoint to resume from.

    Attributes:
      contents: what was read of it; None if there is no checkpoint.
      damaged: the errors of damaged ones, by step.
    """

    contents: Any
    damaged: dict[int, str]


def reader(folder: pathlib.Path) -> ocp.CheckpointManager:
    """A reader of checkpoints that does not synchronise with other processes: one may fail alone.

    It changes nothing in the folder and opens no checkpoint until it is asked to.
    """
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"reader{here}"
    )
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            read_only=True, multiprocessing_options=alone, lightweight_initialize=True
        ),
    )


def steps(folder: pathlib.Path) -> list[int]:
    """The steps that have a folder, the newest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def newest_whole(
    folder: pathlib.Path, read: Callable[[int], Any], glance: Callable[[int], Any]
) -> Recovery:
    """Reads checkpoints, the newest first, until every process can read one.

    Args:
      folder: of the checkpoints.
      read: returns the contents of a step, or raises, without synchronising with other processes.
      glance: reads only what Orbax needs to know of older steps; it raises as ``read`` does.

    Raises:
      ConfigError: there are checkpoints, but none can be read. They stay where they are, because
        the cause may be elsewhere.
    """
    damaged: dict[int, str] = {}
    listed = distributed.from_primary(lambda: steps(folder))
    for i, step in enumerate(listed):
        contents, why = _tried(read, step)
        reasons = [reason for reason in distributed.exchange(why) if reason]
        if reasons:
            damaged[step] = reasons[0]
            continue
        older = distributed.from_primary(lambda i=i: _unreadable(listed[i + 1 :], glance))
        return Recovery(contents, damaged | {int(old): why for old, why in older.items()})
    if damaged:
        reasons = "; ".join(f"step {step}: {why}" for step, why in damaged.items())
        raise ConfigError(
            f"--workdir={folder.parent}: none of its checkpoints can be read ({reasons}). No "
            f"file was changed: restore their files, or move {folder} away to start again"
        )
    return Recovery(None, damaged)


def _tried(read: Callable[[int], Any], step: int) -> tuple[Any, str]:
    try:
        return read(step), ""
    except (MemoryError, jax.errors.JaxRuntimeError):  # of the device, not of a file
        raise
    except Exception as error:  # Orbax raises nearly anything
        _silence_reads_in_flight()
        return None, said_in_a_line(error)


def _unreadable(older: Sequence[int], glance: Callable[[int], Any]) -> dict[str, str]:
    return {str(step): why for step in older if (why := _tried(glance, step)[1])}


def _silence_reads_in_flight() -> None:
    """Hides the tracebacks that TensorStore prints for all other arrays when one is unreadable."""
    before = sys.unraisablehook

    def hook(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def set_aside(folder: pathlib.Path, damaged: Mapping[int, str]) -> None:
    """Moves damaged checkpoints away, so that their steps can be saved again, and prints it.

    Raises:
      ConfigError: one cannot be moved.
    """
    with distributed.all_or_none():
        for step, why in damaged.items() if distributed.primary() else ():
            target = _free_name(folder.parent / DAMAGED / str(step))
            try:
                target.parent.mkdir(exist_ok=True)
                os.rename(folder / str(step), target)
            except OSError as error:
                raise ConfigError(
                    f"the checkpoint of step {step} is damaged ({why}) and cannot be moved to "
                    f"{target}: {error.strerror}; move it away"
                ) from error
            distributed.say(
                f"the checkpoint of step {step} cannot be read, a file of it is damaged or "
                f"missing ({why}); moved to {target}"
            )


def said_in_a_line(error: BaseException) -> str:
    """The class of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


def _free_name(path: pathlib.Path) -> pathlib.Path:
    number, free = 0, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
