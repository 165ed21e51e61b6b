"""An error for forward mode of functions that lack it, which says what to do instead.

A function with its own backward pass (``jax.custom_vjp``) has no forward mode. JAX's error names
neither the function nor an alternative.

An array that passed through ``reverse_mode_only`` may be differentiated in reverse mode, in which
its tangent is transposed and never computed. Computing the tangent raises a TypeError, before a jit
is compiled. Forward over reverse, as in ``jax.hessian``, is allowed.
"""

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def reverse_mode_only(operands, advice: str):
    """The same pytree of arrays, whose derivatives in forward mode raise a TypeError.

    Args:
      operands: a pytree of arrays; None stays None.
      advice: the message of the error.
    """
    return jax.tree.map(lambda v: _value.bind(v, advice=advice), operands)


def _refuse(*_, advice):
    raise TypeError(advice)


def _with_tangent(primals, tangents, *, advice):
    (value,), (tangent,) = primals, tangents
    return value, tangent if type(tangent) is ad.Zero else _tangent.bind(tangent, advice=advice)


_value = Primitive("reverse_mode_value")
_value.def_impl(lambda v, *, advice: v)
_value.def_abstract_eval(lambda v, *, advice: v)
mlir.register_lowering(_value, lambda context, v, *, advice: [v])
batching.defvectorized(_value)
ad.primitive_jvps[_value] = _with_tangent

_tangent = Primitive("reverse_mode_tangent")
_tangent.def_impl(_refuse)
_tangent.def_abstract_eval(lambda v, *, advice: v)
mlir.register_lowering(_tangent, _refuse)
batching.primitive_batchers[_tangent] = _refuse
ad.deflinear(_tangent, lambda cotangent, *, advice: [cotangent])
