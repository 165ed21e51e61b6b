"""Loggers: where metrics go beside ``metrics.jsonl`` and TensorBoard. Each is a module, named by
``config.loggers.NAME.name``.

A module here defines a frozen dataclass ``Logger``. Its fields are its options, and it raises
``ConfigError`` if its package is missing. ``open(run)`` starts to log and returns a ``Sink``.
Errors of ``open`` and of the sink do not end a run; see ``fgmm/train/log_sinks.py``.
"""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from fgmm.config import ConfigError


class Run(NamedTuple):
    """What a logger is told of a run.

    Attributes:
      workdir: its folder.
      config: its resolved config.
      step: finished steps whose metrics are written. After a kill, or an evaluation that failed,
        the sink gets the steps after these a second time.
    """

    workdir: pathlib.Path
    config: Mapping[str, Any]
    step: int


@runtime_checkable
class Sink(Protocol):
    """A logger of a run in progress."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a finished step."""

    def close(self) -> None:
        """Ends after the last step, with everything written."""


class RunSink:
    """The sink of a package whose runs have ``log(metrics, step=)`` and ``finish()``."""

    def __init__(self, run: Any):
        self._run = run

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """See ``Sink.write``."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """See ``Sink.close``."""
        self._run.finish()


def check_package(package: str) -> None:
    """Checks that a package is installed, without importing it.

    Raises:
      ConfigError: it is missing.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"the package {package!r} is missing: pip install 'fgmm[{package}]', or leave this "
            "logger out"
        )
