"""Parameters that training leaves alone."""

import contextlib
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fgmm.experiment.rules import by_rule, path_of, value_for
from fgmm.models.layers import BatchNorm


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Which parameters are frozen, by rules.

    A frozen parameter gets no update and no weight decay, has no moments in the optimizer and no
    part in the gradient's norm. A frozen batch normalisation normalises by its running statistics,
    as in evaluation, and leaves them as they are; so a frozen encoder without dropout gives in
    training what it gives in evaluation.

    Attributes:
      rules: (regex, whether frozen); the first that matches the whole of a parameter's path holds.
    """

    rules: tuple[tuple[str, bool], ...] = ()

    def holds(self, path: str) -> bool:
        """Whether ``path``, such as ``model/encoders_video/Conv_0/kernel``, is frozen."""
        return value_for(path, self.rules, False)

    def mask(self, params: Any) -> Any:
        """A tree like ``params`` of booleans: True where frozen."""
        return by_rule(params, self.rules, False)

    def moving(self, params: Any) -> Any:
        """The opposite of ``mask``."""
        return jax.tree.map(lambda held: not held, self.mask(params))

    def zeroed(self, tree: Any) -> Any:
        """A tree like the parameters, such as their gradient, with zeros where they are frozen."""
        if not self._any:
            return tree
        return jax.tree.map(
            lambda leaf, held: jnp.zeros_like(leaf) if held else leaf, tree, self.mask(tree)
        )

    def batch_norms(self) -> contextlib.AbstractContextManager:
        """Within it, a model that is applied in training has its frozen batch norms as in
        evaluation: those all of whose running statistics, by paths such as
        ``model/encoders_video/BatchNorm_0/mean``, are frozen.
        """

        def intercept(call, args, kwargs, context):
            module = context.module
            if not isinstance(module, BatchNorm) or context.method_name != "__call__":
                return call(*args, **kwargs)
            here = "/".join(("model", *module.path))
            statistics = module.variables.get("batch_stats", {})
            paths = [path_of(at) for at, _ in jax.tree_util.tree_leaves_with_path(statistics)]
            if not paths or not all(self.holds(f"{here}/{path}") for path in paths):
                return call(*args, **kwargs)
            x, mask, _ = args
            return call(x, mask, False)

        return nn.intercept_methods(intercept) if self._any else contextlib.nullcontext()

    @property
    def _any(self) -> bool:
        return any(held for _, held in self.rules)


NOTHING = Frozen()
