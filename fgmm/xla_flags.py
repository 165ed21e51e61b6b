"""XLA's flags for this process, set before JAX computes anything.

XLA reads the environment variable XLA_FLAGS once, at the first computation of a process, and aborts
the process at a flag it does not know. Importing this module does not import JAX.
"""

import importlib.metadata
import os
import pathlib
from collections.abc import Mapping, MutableMapping

from fgmm.config import ConfigError

# With an empty value XLA on CPU does not use the YNNPACK library for products and convolutions. Its
# own code computes the backward pass of a 2-D convolution in float32 about 3.5 times faster.
_CPU_CONVOLUTION = "--xla_cpu_experimental_ynn_fusion_type"
# Experimental flags come and go with releases; these releases of jaxlib have this one.
_CPU_CONVOLUTION_JAXLIB = "0.10."
# Each of these packages has its own version of XLA, which reads the same variable.
_ACCELERATORS = ("libtpu", "jax-cuda12-pjrt", "jax-cuda13-pjrt")

# A simulated CPU device occupies a thread for each collective that it waits in. XLA's default pool
# has one thread for each device, so waiting devices can block the device that they wait for.
_SIMULATED_DEVICES = "--xla_force_host_platform_device_count"
_POOL, _THREADS_PER_DEVICE = "PJRT_NPROC", 4

# At its default level, 2, LLVM takes more than twice as long as at 1. Both give the same numbers;
# level 0 does not, because it does not fuse products with sums.
_LEVEL, _QUICK_LEVEL = "xla_backend_optimization_level", 1

_DETERMINISTIC = "--xla_gpu_deterministic_ops"
_TRUE = ("", "true", "1")


def configure(
    *, deterministic: bool = False, environ: MutableMapping[str, str] = os.environ
) -> None:
    """Appends this project's flags to XLA_FLAGS; calling it again changes nothing.

    A flag that is already set keeps its value. With simulated devices this also sets PJRT_NPROC,
    the number of threads that XLA runs them on, so that no collective hangs.

    Args:
      deterministic: whether GPU kernels give the same bits in every run, at some cost in speed.
        CPU ignores this flag.
      environ: the environment to change.

    Raises:
      ConfigError: ``deterministic`` is True but XLA_FLAGS turns it off; or XLA_FLAGS names a file
        of flags, as XLA allows, that cannot be read.
    """
    flags = environ.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("--"):
        # It is the name of a file. The file's contents replace it, so that flags can be appended.
        try:
            flags = pathlib.Path(flags).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"XLA_FLAGS={flags} cannot be read ({getattr(error, 'strerror', error)}); name a "
                "file of flags, or give flags, which begin with --"
            ) from error
    present = {name: value for name, _, value in (flag.partition("=") for flag in flags.split())}

    wanted = {}
    on_cpu = not any(map(_version, _ACCELERATORS))
    if on_cpu and _version("jaxlib").startswith(_CPU_CONVOLUTION_JAXLIB):
        wanted[_CPU_CONVOLUTION] = ""
    if deterministic:
        value = present.get(_DETERMINISTIC, "true")
        if value not in _TRUE:
            raise ConfigError(
                f"deterministic is on but XLA_FLAGS has {_DETERMINISTIC}={value}; drop one of them"
            )
        wanted[_DETERMINISTIC] = "true"
    added = [f"{name}={value}" for name, value in wanted.items() if name not in present]
    if added:
        environ["XLA_FLAGS"] = " ".join(filter(None, [flags, *added]))
    devices = present.get(_SIMULATED_DEVICES) or environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdecimal() and int(devices) > 1:
        environ.setdefault(_POOL, str(max(_THREADS_PER_DEVICE * int(devices), os.cpu_count() or 1)))


def compiled_quickly(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """``compiler_options`` of ``jax.jit`` for a program that runs once, on a CPU.

    Empty if XLA_FLAGS already sets the level of optimisation.
    """
    return {} if f"--{_LEVEL}" in environ.get("XLA_FLAGS", "") else {_LEVEL: _QUICK_LEVEL}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
