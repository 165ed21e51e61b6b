"""Parameters and statistics that training does not change."""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fgmm.experiment.rules import path_of, value_for

# Arguments or fields, with the values at which a module does not change its statistics.
_AS_IN_EVALUATION = {
    "train": False,
    "training": False,
    "is_training": False,
    "update_stats": False,
    "use_running_average": True,
}


@dataclasses.dataclass(frozen=True)
class Freezing:
    """The parameters and statistics that are frozen, by rules.

    A frozen parameter gets no update and no weight decay. It has no moments in the optimizer and
    does not count in the norm of the gradient. Frozen statistics do not change. A normalisation
    with frozen statistics uses them as in evaluation. So a frozen encoder without dropout has the
    same output in training and in evaluation.

    Attributes:
      rules: (regex, whether frozen); the first whose regex matches a whole path applies.
      paths: paths that are frozen in any case.
    """

    rules: tuple[tuple[str, bool], ...] = ()
    paths: frozenset[str] = frozenset()

    def holds(self, path: str) -> bool:
        """Whether ``path``, such as ``model/encoders_video/Conv_0/kernel``, is frozen."""
        return path in self.paths or value_for(path, self.rules, False)

    def mask(self, params: Any) -> Any:
        """A tree of booleans like ``params``: True where frozen."""
        return jax.tree_util.tree_map_with_path(lambda at, _: self.holds(path_of(at)), params)

    def moving(self, params: Any) -> Any:
        """A tree of booleans like ``params``: True where not frozen."""
        return jax.tree.map(lambda held: not held, self.mask(params))

    def zeroed(self, tree: Any) -> Any:
        """A tree like the parameters, such as their gradient, with zeros for frozen parameters."""
        if not self:
            return tree
        return jax.tree.map(
            lambda leaf, held: jnp.zeros_like(leaf) if held else leaf, tree, self.mask(tree)
        )

    def statistics(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        """Statistics after a step, with frozen ones as before the step.

        Args:
          before, after: the model's mutable collections. A path is, for example,
            ``model/encoders_video/BatchNorm_0/mean``.
        """

        def pick(at, old, new):
            return old if self.holds(f"model/{path_of(at)}") else new

        return {
            name: jax.tree_util.tree_map_with_path(pick, before[name], new) if self else new
            for name, new in after.items()
        }

    def normalising(self) -> contextlib.AbstractContextManager:
        """A context in which a model in training runs its frozen normalisations as in evaluation.

        Frozen normalisations are the modules whose own statistics are all frozen. The context sets
        their argument or field ``train``, ``training``, ``is_training``, ``update_stats`` or
        ``use_running_average``.
        """

        def intercept(call, args, kwargs, context):
            module = context.module
            if context.method_name != "__call__" or not self._holds_statistics_of(module):
                return call(*args, **kwargs)
            names = inspect.signature(type(module).__call__)
            bound = names.bind(module, *args, **kwargs)
            told = {
                name: value for name, value in _AS_IN_EVALUATION.items() if name in names.parameters
            }
            with _fields_replaced(module, without=told):
                bound.arguments.update(told)
                return call(*bound.args[1:], **bound.kwargs)

        return nn.intercept_methods(intercept) if self else contextlib.nullcontext()

    def _holds_statistics_of(self, module: nn.Module) -> bool:
        here = "/".join(("model", *module.path))
        own = [
            name
            for collection, variables in module.variables.items()
            for name, value in variables.items()
            if collection != "params" and not isinstance(value, Mapping)
        ]
        return bool(own) and all(self.holds(f"{here}/{name}") for name in own)

    def __bool__(self) -> bool:
        return bool(self.paths) or any(held for _, held in self.rules)


@contextlib.contextmanager
def _fields_replaced(module: nn.Module, without: Mapping[str, Any]) -> Iterator[None]:
    """Sets the fields of a module that say whether it trains to their values in evaluation. A field
    becomes None if an argument in ``without`` says the same, since flax refuses both.
    """
    before = {
        name: getattr(module, name)
        for name in _AS_IN_EVALUATION
        if getattr(module, name, None) is not None
    }
    for name in before:
        # Flax modules refuse plain assignment.
        object.__setattr__(module, name, None if name in without else _AS_IN_EVALUATION[name])
    try:
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(module, name, value)
