"""JAX's interpreter of Mosaic GPU kernels, with what it lacks for the kernels here.

Its matrix product takes refs alone and does not transpose them; on the device the first operand may
be in registers and the second may be transposed, and in JAX's own attention kernels they are. And
it compiles a kernel anew for each thread of each thread block, where once will do. JAX has no
public name for any of this: the one place in the tests that replaces private parts of it.
"""

import contextlib
import functools
import inspect
import threading
from unittest import mock

import jax
import numpy as np


def _moved(what: str) -> RuntimeError:
    return RuntimeError(
        f"jax {jax.__version__} has moved its interpreter of GPU kernels ({what}): install the jax "
        "of constraints.txt, or correct tests/losses/kernels/interpreter.py"
    )


try:
    from jax._src.pallas.mosaic.interpret import thread_map, utils
    from jax._src.pallas.mosaic.interpret.race_detection_state import RaceDetectionState
    from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks
    from jax._src.pallas.mosaic_gpu.interpret.params import (
        InterpretGPUParams,
        force_gpu_interpret_mode,
    )
    from jax._src.pallas.mosaic_gpu.interpret.shared_memory import GPUSharedMemory
    from jax._src.state.types import TransposeTransform
except ImportError as error:
    raise _moved(str(error)) from error

# What is replaced or called, and the parameters that it must have.
PARAMETERS = {
    (thread_map, "_run_jaxpr"): ("jaxpr", "consts", "args"),
    (gpu_callbacks, "RaceDetectionState"): ("num_cores",),
    (gpu_callbacks, "_get_shared_memory"): (),
    (gpu_callbacks, "_remove_noop_transforms"): ("transforms",),
    (gpu_callbacks, "wgmma"): (
        *("token", "device_id", "grid_point_coords", "thread_id", "acc_dtype", "source_info"),
        *(f"{name}_allocation_key_as_array" for name in ("a", "b", "acc")),
        *(f"{name}_transforms" for name in ("a", "b", "acc")),
    ),
    (GPUSharedMemory, "get_global_thread_id"): ("device_id", "local_thread_id"),
    (GPUSharedMemory, "get_buffer_content"): ("key", "rnge", "logging_info"),
    (GPUSharedMemory, "store_buffer_content"): ("key", "rnge", "value", "logging_info"),
    (gpu_callbacks.HostAllocationKey, "from_array"): ("request",),
    (utils, "GPULoggingInfo"): ("device_id", "grid_point_coords", "thread_id", "source_info"),
    (utils, "to_range"): ("transforms",),
}


def check() -> None:
    """
    Raises:
      RuntimeError: this version of JAX has not what is replaced here, or gives it other arguments.
    """
    for (owner, name), expected in PARAMETERS.items():
        if not hasattr(owner, name):
            raise _moved(f"no {name}")
        missing = set(expected) - set(inspect.signature(getattr(owner, name)).parameters)
        if missing:
            raise _moved(f"{name} has no {', '.join(sorted(missing))}")


@contextlib.contextmanager
def interpreted(detect_races: bool = False):
    """Within it kernels are interpreted on the CPU.

    Yields a list that gets, for each kernel that runs, an object with an attribute ``races_found``.

    Raises:
      RuntimeError: this version of JAX has another interpreter.
    """
    check()
    kernels = []

    def races_of_a_kernel(**options):
        kernels.append(RaceDetectionState(**options))
        return kernels[-1]

    with (
        mock.patch.object(gpu_callbacks, "wgmma", _wgmma),
        mock.patch.object(gpu_callbacks, "RaceDetectionState", races_of_a_kernel),
        mock.patch.object(thread_map, "_run_jaxpr", _run_compiled),
        force_gpu_interpret_mode(InterpretGPUParams(detect_races=detect_races)),
    ):
        yield kernels


_compiling = threading.Lock()
_compiled = {}


def _run_compiled(jaxpr, consts, *arguments):
    with _compiling:
        if jaxpr not in _compiled:
            run = jax.jit(functools.partial(jax.core.eval_jaxpr, jaxpr))
            _compiled[jaxpr] = run.lower(consts, *arguments).compile()
    _compiled[jaxpr](consts, *arguments)


def _wgmma(*, token, device_id, thread_id, acc_dtype, source_info=None, **operands):
    memory = gpu_callbacks._get_shared_memory()
    thread = memory.get_global_thread_id(int(device_id), int(thread_id))
    logging_info = utils.GPULoggingInfo(
        device_id=int(device_id),
        grid_point_coords=tuple(map(int, operands["grid_point_coords"])),
        thread_id=int(thread_id),
        source_info=source_info,
    )
    content = functools.partial(_content, memory, thread, logging_info)
    left, _, _ = content(operands["a_allocation_key_as_array"], operands["a_transforms"])
    right, _, _ = content(operands["b_allocation_key_as_array"], operands["b_transforms"])
    sums, key, place = content(operands["acc_allocation_key_as_array"], operands["acc_transforms"])
    more = np.matmul(np.asarray(left, acc_dtype), np.asarray(right, acc_dtype))
    memory.store_buffer_content(key, place, sums + more, thread, logging_info=logging_info)
    return token


def _content(memory, thread, logging_info, key, transforms):
    """What an operand holds, and where it is; an operand in registers is its own content."""
    key = np.asarray(key)
    if key.ndim > 1:
        return key, None, None
    transforms = gpu_callbacks._remove_noop_transforms(transforms)
    indexers = [t for t in transforms if not isinstance(t, TransposeTransform)]
    place = utils.to_range(jax.tree.map(int, indexers))
    key = gpu_callbacks.HostAllocationKey.from_array(key)
    value, _, _ = memory.get_buffer_content(key, place, thread, logging_info=logging_info)
    for transform in transforms:
        if isinstance(transform, TransposeTransform):
            value = np.transpose(value, transform.permutation)
    return value, key, place
