"""Programs of this package in processes of their own that find JAX and others imported already.

A program whose environment or end is what a test is about is started in the ordinary way instead.
"""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

# What most programs import. The one thread by then is NumPy's, of OpenBLAS, which survives forks.
_IMPORTED = [
    *("absl.app", "av", "flax.linen", "grain.python", "jax", "matplotlib.pyplot"),
    *("ml_collections.config_flags", "optax", "orbax.checkpoint", "PIL.Image", "sentencepiece"),
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


def run(
    module: str, *arguments: str, cwd: str | os.PathLike[str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m module arguments`` and returns its exit code and what it printed.

    Args:
      module: with code for ``__main__``.
      arguments: of the command.
      cwd: the folder to run it in.
      timeout: in seconds.

    Raises:
      TimeoutExpired: it took longer, and was killed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [pathlib.Path(folder) / name for name in ("stdout", "stderr")]
        given = (module, command[3:], os.fspath(cwd), dict(os.environ), list(map(str, outputs)))
        process = _context.Process(target=_main, args=given)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout)
        printed = [output.read_text(errors="replace") for output in outputs]
    return subprocess.CompletedProcess(command, process.exitcode, *printed)


def _main(
    module: str, arguments: list[str], cwd: str, environment: dict[str, str], outputs: list[str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    for number, output in enumerate(outputs, 1):
        with open(output, "w") as file:
            os.dup2(file.fileno(), number)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # multiprocessing ends a process without what is due at its exit.
        atexit._run_exitfuncs()
