"""Kernels as matrices of inputs by outputs."""

import math
from collections.abc import Sequence


def is_kernel(path: str, shape: Sequence[int]) -> bool:
    """Whether an array multiplies features: the ``kernel`` of a layer, of at least two axes."""
    return path.rpartition("/")[2] == "kernel" and len(shape) > 1


def input_axes(shape: Sequence[int]) -> int:
    """How many of a kernel's axes are those of its input; they come first.

    [*window, in, out] of a convolution is split before its last axis, and so is [heads, width, out]
    of attention; [in, heads, width] of attention, whose first axis is the longest, after that one.
    """
    into_heads = len(shape) == 3 and shape[0] >= max(shape[1:])
    return 1 if into_heads else len(shape) - 1


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Inputs and outputs of a kernel."""
    split = input_axes(shape)
    return math.prod(shape[:split]), math.prod(shape[split:])
