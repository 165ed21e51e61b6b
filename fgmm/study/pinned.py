"""Runs a module on one core, as ``python -m`` would, and ends with the process that started it.

If the operating system cannot pin a process, or end it with its parent, that step is skipped.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(core: int, module: str, arguments: list[str]) -> None:
    """Pins this process to a core and runs a module as ``__main__``.

    Args:
      core: number of the core.
      module: name of the module.
      arguments: of its command line.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    if sys.platform == "linux":
        # An orphan would hold the lock on its folder against the next start.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
