"""Passes over a corpus; those on several devices are in test_corpus_embeddings."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests import compilation


def read_by(processes, devices):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"{compilation.FLAGS} {compilation.simulated(devices=devices)}"
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.eval.read_by_processes", *map(str, (i, processes, port))],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes
    return [json.loads(text.splitlines()[-1]) for text in printed]


@pytest.mark.long
@pytest.mark.parametrize(("processes", "devices"), [(1, 1), (2, 1), (2, 3)])
def test_every_clip_counts_once_on_any_number_of_processes(processes, devices):
    found = read_by(processes, devices)
    for of_process in found:
        assert of_process["records"] == list(range(11))
        assert of_process["numbers"] == [2.0 * i for i in range(11)]
    # Each read about its share: its own clips, and one where the last batch had none for it.
    assert sorted({i for of_process in found for i in of_process["read"]}) == list(range(11))
    if processes == 2:
        assert all(len(of_process["read"]) < 8 for of_process in found)
