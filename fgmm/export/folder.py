"""The run to export, and the folder to write: completely, or not at all."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import jax
import ml_collections

from fgmm import command_line, remote
from fgmm.config import ConfigError
from fgmm.experiment import lora
from fgmm.experiment.build import Experiment
from fgmm.experiment.state import TrainState
from fgmm.train import checkpoint


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One checkpoint of a run to export, with its adapters merged into their kernels.

    Attributes:
      workdir: of the run.
      experiment, state: as from ``fgmm.train.checkpoint.load``, without adapters.
      weights: which parameters these are, ``"ema"`` or ``"last"``.
      notes: lines to print about them.
    """

    workdir: pathlib.Path
    experiment: Experiment
    state: TrainState
    weights: str
    notes: tuple[str, ...] = ()

    @classmethod
    def opened(cls, workdir: pathlib.Path, step: str, weights: str = "") -> "Run":
        """Opens a checkpoint.

        Args:
          workdir, step, weights: as in ``fgmm.load``.

        Raises:
          ConfigError: as ``fgmm.load``.
        """
        experiment, state = checkpoint.load(workdir, step, weights)
        kind, adapters = checkpoint.weights_of(workdir, experiment, weights), experiment.adapters
        if not adapters:
            return cls(workdir, experiment, state, kind)
        merged = jax.jit(adapters.merged)(state.params["model"])
        state = state.replace(params={**state.params, "model": merged})
        config = ml_collections.ConfigDict(experiment.config)
        config.lora.rules = ()
        experiment = dataclasses.replace(
            experiment, config=ml_collections.FrozenConfigDict(config), adapters=lora.Adapters()
        )
        return cls(workdir, experiment, state, kind, (f"merged adapters: {adapters}",))

    @property
    def step(self) -> int:
        """Finished steps."""
        return int(self.state.step)


def check_output(output: pathlib.Path) -> None:
    """Checks that a folder can be written, before anything is computed.

    Raises:
      ConfigError: it is a file, holds something, or the folder around it cannot be written.
    """
    remote.refuse(output, "--output")
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ConfigError(f"--output={output} is no folder; give another path")
    if output.is_dir() and any(output.iterdir()):
        raise ConfigError(f"--output={output} holds something already; give a new or empty folder")
    command_line.folder_to_write(output.absolute().parent)


@contextlib.contextmanager
def whole(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder to write into. It becomes ``output`` at the end; an error removes it.

    Raises:
      ConfigError: as ``check_output``, or the disk is full.
    """
    check_output(output)
    output = output.absolute()
    # In the same file system, so that it can be renamed.
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        os.replace(partial, output)
    except OSError as error:
        raise ConfigError(f"--output={output} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    """The umask of the process, which can only be read by setting it."""
    found = os.umask(0)
    os.umask(found)
    return found
