"""The programs of a cell, in order: the training, then each evaluation."""

import os
import pathlib
import sys
from collections.abc import Mapping

from fgmm.study.grid import Cell, Stage, Study

# One thread for each cell: with more, cells that share a machine wait for each other.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# Runs ``fgmm.study.pinned``, which has no command line of its own.
_PINNED = (
    "import sys; from fgmm.study.pinned import main; "
    "main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])"
)


def of_cell(study: Study, stage: Stage, cell: Cell, workdir: pathlib.Path) -> list[list[str]]:
    """The module and the arguments of each program of a cell.

    In the stage "run", evaluations also write the outcomes of single queries.

    Args:
      study, stage: of the cell.
      cell: with values on all axes.
      workdir: of its training.
    """
    variants = ",".join(f"{k}={v}" for k, v in cell.coordinates.items() if k != "seed")
    training = [
        study.trainer,
        f"--workdir={workdir}",
        f"--config={study.experiment}:{variants}",
        f"--config.seed={cell.coordinates['seed']}",
        "--config.progress=False",
    ]
    by_query = ["--by_query"] if cell.stage == "run" else []
    evaluations = [
        [
            program if "." in program else f"fgmm.eval.{program}",
            f"--workdir={workdir}",
            *([f"--config={protocol}"] if protocol else []),
            *by_query,
        ]
        for program, protocol in stage.evaluations
    ]
    return [training, *evaluations]


def pinned(command: list[str], core: int) -> list[str]:
    """The command line that runs a program on one core."""
    return [sys.executable, "-c", _PINNED, str(core), *command]


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a cell's programs, in which computations use one thread.

    Args:
      environ: the environment to start from; its own ``XLA_FLAGS`` on threads stay.
    """
    flags = environ.get("XLA_FLAGS", "")
    if _ONE_THREAD.partition("=")[0] not in flags:
        flags = f"{flags} {_ONE_THREAD}".strip()
    return {**environ, "XLA_FLAGS": flags, **dict.fromkeys(_THREADS, "1")}
