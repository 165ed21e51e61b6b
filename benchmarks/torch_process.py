"""A script of PyTorch in a process and an environment of its own, asked in lines of JSON."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any


class TorchProcess:
    """A script of this folder that answers requests.

    Args:
      python: an interpreter that has PyTorch.
      script: the name of the file.
    """

    def __init__(self, python: str, script: str):
        path = pathlib.Path(__file__).with_name(script)
        # Its threads must not spin while JAX computes.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([python, str(path)], text=True, env=environment, **pipes)
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
