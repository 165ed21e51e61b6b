"""Checks that the requested devices are available."""

import os

import jax

from fgmm.config import ConfigError


def check_available() -> None:
    """Starts JAX's backend, so that a missing device is reported here and not by later code.

    Raises:
      ConfigError: JAX cannot start the backend, such as one that ``JAX_PLATFORMS`` names.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"JAX_PLATFORMS={asked!r}: jax finds no such device ({why}); unset it for what there "
            "is, or install the extra that the device needs (cuda, tpu)"
            if asked
            else f"JAX cannot start its backend ({why}); set JAX_PLATFORMS=cpu, or install the "
            "extra for the device (cuda, tpu)"
        ) from error
