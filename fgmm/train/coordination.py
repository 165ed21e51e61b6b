"""The key-value store of ``jax.distributed``, for which JAX has no public name.

The only module here that uses a private part of another package.
"""

from typing import Any

import jax

# The methods of the client that are used.
METHODS = ("key_value_set", "key_value_dir_get", "wait_at_barrier")


def key_value_client() -> Any:
    """The client of the coordination service, which runs in process 0.

    Raises:
      RuntimeError: ``jax.distributed`` is not initialised, or this version of JAX keeps the client
        elsewhere.
    """
    if not jax.distributed.is_initialized():
        raise RuntimeError("jax.distributed is not initialised: there is one process only")
    try:
        from jax._src import distributed

        client = distributed.global_state.client
    except (ImportError, AttributeError) as error:
        raise _moved(str(error)) from error
    missing = [name for name in METHODS if not hasattr(client, name)]
    if missing:
        raise _moved(f"no {', '.join(missing)}")
    return client


def _moved(what: str) -> RuntimeError:
    return RuntimeError(
        f"jax {jax.__version__} has moved the client of its coordination service ({what}): install "
        "the jax of constraints.txt, or correct fgmm/train/coordination.py"
    )
