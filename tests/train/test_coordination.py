"""JAX's coordination client is where this package looks for it."""

import re
import socket
import subprocess
import sys

import jax
import pytest

from fgmm.train import coordination


class Elsewhere:
    """A client of a later version."""


def test_the_client_of_this_jax_stores_and_lists():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    program = f"""
import jax
from fgmm.train.coordination import key_value_client
jax.distributed.initialize({address!r}, 1, 0)
client = key_value_client()
client.key_value_set("fgmm/test/0", "said")
client.wait_at_barrier("fgmm/test", 10_000)
print(client.key_value_dir_get("fgmm/test"))
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[('fgmm/test/0', 'said')]", result.stderr


def test_a_client_that_moved_is_named_with_the_version(monkeypatch):
    from jax._src import distributed

    monkeypatch.setattr(distributed.global_state, "client", Elsewhere())
    missing = f"jax {jax.__version__} has moved .*no key_value_set.*constraints.txt"
    with pytest.raises(RuntimeError, match=missing):
        coordination.key_value_client()


def test_one_process_has_no_client():
    with pytest.raises(RuntimeError, match=re.escape("jax.distributed is not initialised")):
        coordination.key_value_client()
