"""Parameters and floating-point operations of a model, part by part, without running it.

A multiply-add is two FLOPs. Matrix products and convolutions are counted in the jaxpr of the
forward pass. So the count does not depend on the platform or on what XLA does (layouts, fusions,
padding), and tracing takes less time than the lowering that XLA's own cost analysis needs.
Additions, normalisation, activations and look-ups are not counted. Products of a convolution with
its padding are counted, as in most papers.
"""

import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
from jax.extend import core

# Prefix of an encoder's parameters and name scopes in ``MultiModal``; all others belong to heads.
_ENCODER = "encoders_"


class Part(NamedTuple):
    """An encoder, or all heads.

    Attributes:
      name: such as ``"video, s3d"`` or ``"heads"``.
      parameters: how many numbers are learned.
      flops: FLOPs of the forward pass on one clip with all of its captions.
    """

    name: str
    parameters: int
    flops: float


def flops(function: Callable, *arguments: Any) -> float:
    """FLOPs of a function's matrix products and convolutions.

    Args:
      function: the function; it is traced, not run.
      arguments: its arguments, arrays or ``jax.ShapeDtypeStruct``.

    Raises:
      ValueError: there is a product in a loop (``while``) without a fixed number of iterations.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return sum((count for _, count in _products(jaxpr.jaxpr, "")), 0.0)


def by_encoder(function: Callable, *arguments: Any) -> dict[str, float]:
    """FLOPs as in ``flops``, by encoder, such as ``"encoders_video"``; ``""`` for all else.

    Args:
      function, arguments: as in ``flops``; the function must apply a ``MultiModal``.

    Raises:
      ValueError: as in ``flops``.
    """
    return _by_encoder(_named(function)(*arguments))


def parts(model: nn.Module, inputs: Mapping[str, Any]) -> list[Part]:
    """Parameters and FLOPs of each encoder of a ``MultiModal``, then of its heads.

    Args:
      model: as ``Experiment.model``.
      inputs: the inputs of the model, arrays or ``jax.ShapeDtypeStruct``, for any number of clips.
    """

    def run(key, inputs):
        embeddings, variables = model.init_with_output(key, inputs)
        return jax.tree.leaves(embeddings), variables["params"]

    key = jax.eval_shape(lambda: jax.random.key(0))
    jaxpr, (_, params) = _named(run, return_shape=True)(key, inputs)
    parameters, operations = collections.Counter(), _by_encoder(jaxpr)
    for name, tree in params.items():
        owner = name if name.startswith(_ENCODER) else ""
        parameters[owner] += sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    clips = jax.tree.leaves(inputs)[0].shape[0]
    return [
        Part(name, parameters[owner], operations[owner] / clips)
        for owner, name in _names(model).items()
    ]


def _names(model: nn.Module) -> dict[str, str]:
    """The printed name of each part, by the prefix of its parameters."""
    encoders = {
        f"{_ENCODER}{modality}": f"{modality}, {_name_of(encoder)}"
        for modality, encoder in model.encoders.items()
    }
    return {**encoders, "": "heads"}


def _name_of(encoder: nn.Module) -> str:
    """``config.model.MODALITY.name`` of an encoder: its file here, or ``module:Class``."""
    room, _, file = type(encoder).__module__.rpartition(".")
    here = room.startswith("fgmm.models.")
    return file if here else f"{type(encoder).__module__}:{type(encoder).__qualname__}"


def table(model: nn.Module, inputs: Mapping[str, Any]) -> str:
    """The parts and their sum as a table in text.

    Args:
      model, inputs: as in ``parts``.
    """
    rows = parts(model, inputs)
    rows.append(Part("all", sum(p.parameters for p in rows), sum(p.flops for p in rows)))
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}} | {'parameters':>13} | GFLOP a clip, forward"]
    for row in rows:
        lines.append(f"{row.name:{width}} | {row.parameters:13,} | {row.flops / 1e9:21,.3f}")
    return "\n".join(lines)


def _named(function: Callable, **options: Any) -> Callable:
    """``jax.make_jaxpr`` with flax's name scopes for modules switched on."""

    def trace(*arguments):
        with flax.config.temp_flip_flag("profile", True):
            return jax.make_jaxpr(function, **options)(*arguments)

    return trace


def _by_encoder(jaxpr: Any) -> dict[str, float]:
    operations = collections.defaultdict(float)
    for scope, count in _products(jaxpr.jaxpr, ""):
        operations[scope] += count
    return operations


def _products(jaxpr: Any, scope: str) -> Iterator[tuple[str, float]]:
    """For each product of a jaxpr: the encoder that it belongs to, or ``""``, and its FLOPs."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        within = _scope(equation) or scope
        if name == "dot_general":
            yield within, _of_dot(equation)
        elif name == "conv_general_dilated":
            yield within, _of_convolution(equation)
        elif name == "cond":
            branches = [list(_products(b.jaxpr, within)) for b in _branches(equation)]
            yield from max(branches, key=lambda branch: sum(count for _, count in branch))
        else:
            turns = equation.params["length"] if name == "scan" else 1
            for inner in core.jaxprs_in_params(equation.params):
                for owner, count in _products(inner, within):
                    if name == "while":
                        raise ValueError("a product in a loop of unknown length cannot be counted")
                    yield owner, turns * count


def _branches(equation: Any) -> Sequence[Any]:
    """The branches of a ``cond``; only the default branch if the branch depends on the platform."""
    branches = equation.params["branches"]
    platforms = equation.params.get("branches_platforms")
    return [branches[platforms.index(None)]] if platforms and None in platforms else branches


def _scope(equation: Any) -> str:
    """The encoder in whose name scope an equation was traced, or ``""``."""
    scopes = str(equation.source_info.name_stack).split("/")
    return next((scope for scope in scopes if scope.startswith(_ENCODER)), "")


def _of_dot(equation: Any) -> float:
    """Two FLOPs for each element of the result and each element summed over."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    summed = math.prod(left[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * summed


def _of_convolution(equation: Any) -> float:
    """Two FLOPs for each element of the result and each weight of the kernel that it uses."""
    kernel = equation.invars[1].aval.shape
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / features
