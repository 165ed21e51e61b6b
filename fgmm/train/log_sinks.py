"""The loggers of a run. A logger that fails is reported once and dropped; the run goes on."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import tqdm

from fgmm import components
from fgmm.config import Config, as_dict
from fgmm.train.loggers import Run, Sink

# Seconds for a logger to send its last metrics; without a network it never would.
CLOSING_SECONDS = 60.0


def from_config(config: Config) -> dict[str, Any]:
    """The loggers of ``config.loggers``, by the name of their entry; they open nothing yet.

    Raises:
      ConfigError: a name or an option is wrong, or a package is missing.
    """
    return {
        name: components.build("train.loggers", entry, key=f"loggers.{name}")
        for name, entry in config["loggers"].items()
    }


class LogSinks:
    """Hands metrics to every logger that still works.

    Args:
      loggers: of ``from_config``.
      run: what they are told.
    """

    def __init__(self, loggers: Mapping[str, Any], run: Run):
        self._sinks: dict[str, Sink] = {}
        run = run._replace(config=as_dict(run.config))
        for name, logger in loggers.items():
            self._try(name, self._open, name, logger, run)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hands on the metrics of a finished step."""
        for name, sink in list(self._sinks.items()):
            self._try(name, sink.write, step, metrics)

    def close(self) -> None:
        """Ends every logger; waits at most ``CLOSING_SECONDS`` for each."""
        for name, sink in list(self._sinks.items()):
            closing = threading.Thread(target=self._try, args=(name, sink.close), daemon=True)
            closing.start()
            closing.join(CLOSING_SECONDS)
            if closing.is_alive():
                waited = f"has not ended in {CLOSING_SECONDS:.0f} s"
                _say(f"logger {name} {waited}; the run ends without it")
        self._sinks.clear()

    def _open(self, name: str, logger: Any, run: Run) -> None:
        self._sinks[name] = logger.open(run)

    def _try(self, name: str, call: Callable[..., None], *arguments: Any) -> None:
        # No failure of a logger ends a run.
        try:
            call(*arguments)
        except Exception as error:
            self._sinks.pop(name, None)
            why = " ".join(f"{type(error).__name__}: {error}".split())
            _say(f"logger {name} failed and is left out from here on: {why}")


def _say(line: str) -> None:
    # Above the progress bar, if there is one.
    tqdm.tqdm.write(line)
