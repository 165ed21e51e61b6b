"""Checks of arrays and temperatures before anything is traced, with errors that name the argument.

The annotations of a function say what is checked: ``x_mask: Bool[Array, "b N"]`` is a boolean array
with two axes, and b and N have the same sizes in all arguments.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Key

from fgmm.losses.options import check_positive, check_share
from fgmm.losses.scores import Scores

_KINDS = {Float: (jnp.floating, "floating point"), Int: (jnp.integer, "integers")}


def jitted(*static: str) -> Callable[[Callable], Callable]:
    """A ``jax.jit`` of a function that checks arguments before it traces them.

    Args:
      static: names of arguments that are not arrays.
    """

    def decorate(function):
        compiled = jax.jit(function, static_argnames=static)
        signature = inspect.signature(function)
        by_name = [name for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY]

        @functools.wraps(function)
        def checked(*args, **kwargs):
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"{function.__name__}: {error}; pass these by name: {', '.join(by_name)}"
                ) from None
            check_arrays(signature, given.arguments)
            return compiled(*args, **kwargs)

        return checked

    return decorate


def check_arrays(signature: inspect.Signature, arguments: Mapping[str, Any]) -> None:
    """Compares arguments with their annotations.

    Raises:
      ValueError: an argument is not an array, its dtype or its number of axes is not as annotated,
        an axis has another size than in an earlier argument, a temperature is not above 0,
        or a noise rate is not above 0 and below 1.
    """
    sizes = {}
    for name, value in arguments.items():
        annotation = signature.parameters[name].annotation
        kinds = [kind for kind in _members(annotation) if hasattr(kind, "dim_str")]
        kinds = [kind for kind in kinds if kind.dtype is not Key]
        if not kinds or (value is None and type(None) in _members(annotation)):
            continue
        if kinds[0].dim_str == "":
            _check_scalar(name, value)
            continue
        values = value.values if isinstance(value, Scores) else value
        # If several layouts are annotated, the one with as many axes as the array is checked.
        axes = [kind.dim_str.split() for kind in kinds]
        if isinstance(value, Scores) and value.candidates is not None:
            # The C of other arguments counts captions.
            axes = [["K" if axis == "C" else axis for axis in each] for each in axes]
        fitting = [each for each in axes if len(each) == getattr(values, "ndim", None)]
        _check_array(name, values, kinds[0].dtype, (fitting or axes)[0], sizes)


def _members(annotation):
    return typing.get_args(annotation) or (annotation,)


def _check_scalar(name, value):
    if value is None or jnp.shape(value):
        got = "None" if value is None else f"shape {jnp.shape(value)}"
        raise ValueError(f"{name} must be a single number; got {got}")
    if isinstance(value, jax.core.Tracer):
        return
    if name.endswith("temperature"):
        check_positive(**{name: float(value)})
    if name == "noise_rate":
        check_share(noise_rate=float(value))


def _check_array(name, value, kind, axes, sizes):
    wanted = f"{name} must be [{','.join(axes)}]"
    if not hasattr(value, "shape"):
        raise ValueError(f"{wanted}, an array; got {type(value).__name__}")
    shape = value.shape
    if axes[0].startswith("*"):
        rest = 1 + len(shape) - len(axes)
        shape = shape[:rest], *shape[rest:]
    if len(shape) != len(axes):
        raise ValueError(f"{wanted}; got shape {value.shape}")
    if kind is Bool and value.dtype != bool:
        raise ValueError(f"{name} must be bool; got {value.dtype}: pass {name} > 0")
    if kind is not Bool and not jnp.issubdtype(value.dtype, _KINDS[kind][0]):
        raise ValueError(f"{name} must be {_KINDS[kind][1]}; got {value.dtype}")
    for axis, size in zip(axes, shape, strict=True):
        known, whose = sizes.setdefault(axis, (size, name))
        if size != known:
            raise ValueError(f"{wanted} with {axis} = {known} as in {whose}; got {value.shape}")
