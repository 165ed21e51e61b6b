"""A script of PyTorch in a process and an environment of its own, asked in lines of JSON.

The script imports this file too, so nothing here needs more than Python.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


class TorchProcess:
    """A script of this folder that answers requests.

    Args:
      python: an interpreter that has PyTorch.
      script: the name of the module.
    """

    def __init__(self, python: str, script: str):
        root = str(pathlib.Path(__file__).resolve().parents[1])
        # Its threads must not spin while JAX computes.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": root}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [python, "-m", f"benchmarks.{script}"]
        self._process = subprocess.Popen(command, text=True, env=environment, **pipes)
        self._script = script

    def ask(self, **request: Any) -> Any:
        """The answer to a request; exits if the process has ended."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{self._script} ended with {self._process.wait()} at {request}")
        return json.loads(answer)

    def close(self) -> None:
        """Waits until the process ends."""
        self._process.stdin.close()
        self._process.wait()


def answer(
    prepare: Callable[..., tuple[Any, dict[str, Callable[[], Any]]]],
    synchronise: Callable[[], Any] = lambda: None,
) -> None:
    """Answers the requests of a ``TorchProcess`` until its input ends.

    Args:
      prepare: called with the entries of a request ``prepare``; returns its answer, and what can be
        timed by name. A request ``run`` names one of these, and its answer is in seconds.
      synchronise: waits for the device.
    """
    kinds = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            found, kinds = prepare(**request["prepare"])
        else:
            synchronise()
            start = time.perf_counter()
            kinds[request["run"]]()
            synchronise()
            found = time.perf_counter() - start
        print(json.dumps(found), flush=True)
