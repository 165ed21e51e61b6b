"""Shards the train state over the devices along the axis ``fsdp`` of the mesh.

By default every array of at least ``config.mesh.fsdp_minimum`` numbers is sharded along its longest
axis that ``config.mesh.fsdp`` divides (of equally long ones, the last). Smaller arrays, and arrays
without such an axis, are replicated. ``config.mesh.rules`` are pairs (regex, spec). The first one
whose regex matches the whole path of a parameter applies. Moments in the optimizer's state are
sharded like their parameter::

    config.mesh.rules = (
        ("model/encoders_text/.*embedding", ("fsdp", "")),  # sharded by rows
        ("model/heads_.*", ()),  # replicated
        (".*/kernel", "auto"),  # as by default, however small
    )

The step gathers a parameter where it is used and shards its gradient, as in ZeRO stage 3
(Rajbhandari et al., SC 2020, arXiv 1910.02054) and FSDP. The sharding changes no result.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgmm.config import Config, ConfigError
from fgmm.config.regex_rules import checked_rules
from fgmm.experiment.build import Experiment
from fgmm.experiment.rules import check_matches, path_of, paths_of, value_for
from fgmm.train.mesh import everywhere

_AXIS = "fsdp"
_AUTO = "auto"
# For parameters without a rule; a rule's "auto" has no minimum size.
_DEFAULT = "default"

Rules = tuple[tuple[str, str | tuple[str, ...]], ...]


def _spec_of_rule(spec: Any) -> str | tuple[str, ...]:
    if spec == _AUTO:
        return spec
    if not isinstance(spec, list | tuple) or not set(spec) <= {"", _AXIS}:
        raise ValueError("a spec is 'auto' or names '' or 'fsdp' for each axis")
    if list(spec).count(_AXIS) > 1:
        raise ValueError("one axis at most can be cut")
    return tuple(spec)


def of_state(experiment: Experiment, mesh: Mesh) -> Any:
    """The sharding of every array of the train state, as a tree like it; computes nothing.

    Raises:
      ConfigError: a rule is wrong, matches nothing, or shards an axis that ``mesh.fsdp`` does not
        divide.
    """
    options = experiment.config.mesh
    rules = checked_rules(options.rules, "mesh.rules", _spec_of_rule, "spec")
    ways = mesh.shape.get(_AXIS, 1)
    state = experiment.abstract_state
    check_matches(rules, paths_of(state.params), "mesh.rules")
    if ways == 1:
        return jax.tree.map(lambda _: everywhere(mesh), state)
    shapes = {
        path_of(at): leaf.shape for at, leaf in jax.tree_util.tree_leaves_with_path(state.params)
    }
    specs = {path: _spec(path, shape, rules, options, ways) for path, shape in shapes.items()}

    def of_leaf(at, leaf):
        name = _parameter(path_of(at), shapes, leaf.shape)
        return NamedSharding(mesh, specs[name] if name else PartitionSpec())

    return jax.tree_util.tree_map_with_path(of_leaf, state)


def _spec(path: str, shape: tuple, rules: Rules, options: Config, ways: int) -> PartitionSpec:
    spec = value_for(path, rules, _DEFAULT)
    if spec == _DEFAULT and np.prod(shape) < options.fsdp_minimum:
        return PartitionSpec()
    if spec in (_DEFAULT, _AUTO):
        divisible = [axis for axis, size in enumerate(shape) if size and size % ways == 0]
        if not divisible:
            return PartitionSpec()
        longest = max(divisible, key=lambda axis: (shape[axis], axis))
        return PartitionSpec(*(_AXIS if axis == longest else None for axis in range(len(shape))))
    if len(spec) > len(shape):
        raise ConfigError(f"mesh.rules: {spec} is for more axes than {path} has, {shape}")
    if _AXIS in spec and shape[spec.index(_AXIS)] % ways:
        raise ConfigError(
            f"mesh.rules: {spec} cuts {path}, {shape}, along an axis that mesh.fsdp={ways} does "
            "not divide"
        )
    return PartitionSpec(*(name or None for name in spec))


def _parameter(path: str, shapes: Mapping[str, tuple], shape: tuple) -> str:
    """The path of the parameter whose values or moments an array of the state holds; empty if the
    array holds no such thing.
    """
    parts = path.split("/")
    tails = ("/".join(parts[start:]) for start in range(1, len(parts)))
    return next((tail for tail in tails if shapes.get(tail) == shape), "")


def gathered(params: Any, shardings: Any) -> Any:
    """Gathers parameters as whole arrays on every device; their gradients are sharded again.

    Args:
      params: a tree of arrays.
      shardings: their shardings, a tree like it.
    """
    return jax.tree.map(
        lambda x, sharding: x if sharding.is_fully_replicated else _gathered(sharding, x),
        params,
        shardings,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(sharding, x):
    return jax.lax.with_sharding_constraint(x, everywhere(sharding.mesh))


def _gathered_backward(sharding, _, cotangent):
    return (jax.lax.with_sharding_constraint(cotangent, sharding),)


_gathered.defvjp(lambda sharding, x: (_gathered(sharding, x), None), _gathered_backward)
