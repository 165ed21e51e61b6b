"""Whether the devices that were asked for are there."""

import os

import jax

from fgmm.config import ConfigError


def check_available() -> None:
    """Starts JAX's backend, before anything could be blamed for its absence.

    Raises:
      ConfigError: the devices that ``JAX_PLATFORMS`` asks for are not there.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        why = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"JAX_PLATFORMS={asked!r}: jax finds no such device ({why}); unset it for what there "
            "is, or install the extra that the device needs (cuda, tpu)"
        ) from error
