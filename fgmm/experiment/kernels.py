"""Kernels as matrices of inputs by outputs."""

import math
from collections.abc import Sequence


def is_kernel(path: str, shape: Sequence[int]) -> bool:
    """Whether an array is the ``kernel`` of a layer, with at least two axes."""
    return path.rpartition("/")[2] == "kernel" and len(shape) > 1


def input_axes(shape: Sequence[int]) -> int:
    """How many axes of a kernel, from the first on, are axes of its input; the others are axes of
    its output.

    A kernel [*window, in, out] of a convolution and [heads, width, out] of attention have one axis
    of output. A kernel [in, heads, width] of attention, told by its longest first axis, has one
    axis of input.
    """
    into_heads = len(shape) == 3 and shape[0] >= max(shape[1:])
    return 1 if into_heads else len(shape) - 1


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """The numbers of inputs and outputs of a kernel."""
    split = input_axes(shape)
    return math.prod(shape[:split]), math.prod(shape[split:])
