"""LoRA: frozen kernels, each with a trained update of low rank.

After Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021 (arXiv 2106.09685,
section 4.1)::

    config.lora.rules = (("model/encoders_.*/block_.*/kernel", 8),)
    config.lora.alpha = 16.0

If a rule (regex, rank r) matches a kernel W, a matrix of inputs by outputs, the kernel acts as
``W + alpha / r · A B`` with A [in, r] and B [r, out]. A starts at random numbers of variance
1 / in, and B at zero, so a run starts with the model that it was given. A and B are the parameters
``lora_a`` and ``lora_b`` beside the kernel, which is frozen. All other parameters follow the rules
of the optimizer. These rules train only adapters::

    config.optimizer.learning_rate_scale = ((".*/lora_[ab]", 1.0), (".*", "frozen"))

The step computes the sum from the tree of parameters, so encoders need no change.
"""

import dataclasses
import re
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PRNGKeyArray

from fgmm.config import Config, ConfigError
from fgmm.config.regex_rules import checked_rules
from fgmm.experiment.kernels import is_kernel, matrix_shape
from fgmm.experiment.rules import check_matches, value_for

A, B = "lora_a", "lora_b"
_RULES = "lora.rules"
_MODEL = "model/"
# The number that the random keys of adapters are folded with.
_DRAWS = 0x6C6F7261


@dataclasses.dataclass(frozen=True)
class Adapters:
    """The low-rank updates of a model's kernels.

    Attributes:
      ranks: (path, r) of each kernel with an update; a path is, for example,
        ``encoders_video/block_0/Dense_0/kernel``.
      alpha: an update of rank r is multiplied by alpha / r.
    """

    ranks: tuple[tuple[str, int], ...] = ()
    alpha: float = 1.0

    @property
    def held(self) -> frozenset[str]:
        """The paths of the kernels with updates, which are frozen, among all parameters."""
        return frozenset(_MODEL + path for path, _ in self.ranks)

    @property
    def paths(self) -> frozenset[str]:
        """The paths of A and B of all kernels among all parameters."""
        return frozenset(_MODEL + name for path, _ in self.ranks for name in _beside(path))

    def added(self, params: Mapping[str, Any], key: PRNGKeyArray) -> Mapping[str, Any]:
        """Parameters of a model with new adapters, which do not change its output yet.

        Args:
          params: parameters without adapters.
          key: random key. A of a kernel depends only on this key and the path of the kernel.
        """
        if not self:
            return params
        flat = flatten_dict(params, sep="/")
        for path, rank in self.ranks:
            inputs, outputs = matrix_shape(flat[path].shape)
            own = jax.random.fold_in(jax.random.fold_in(key, _DRAWS), zlib.crc32(path.encode()))
            a, b = _beside(path)
            flat[a] = jax.random.normal(own, (inputs, rank), flat[path].dtype) * inputs**-0.5
            flat[b] = jnp.zeros((rank, outputs), flat[path].dtype)
        return unflatten_dict(flat, sep="/")

    def merged(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Parameters of a model with the updates added to its kernels, and without adapters.

        Args:
          params: parameters with adapters, as from ``added``.
        """
        if not self:
            return params
        flat = flatten_dict(params, sep="/")
        for path, rank in self.ranks:
            a, b = (flat.pop(name) for name in _beside(path))
            # By default a TPU would round A and B to bfloat16.
            update = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
            flat[path] += (self.alpha / rank * update).reshape(flat[path].shape)
        return unflatten_dict(flat, sep="/")

    def __str__(self) -> str:
        """The number of kernels, the ranks and alpha, in words."""
        ranks = sorted({rank for _, rank in self.ranks})
        return f"{len(self.ranks)} kernels, rank {', '.join(map(str, ranks))}, alpha {self.alpha:g}"

    def __bool__(self) -> bool:
        return bool(self.ranks)


def from_config(options: Config, blank: Mapping[str, Any]) -> Adapters:
    """The adapters of ``config.lora``.

    Args:
      options: ``config.lora``.
      blank: parameters of the model, or their shapes.

    Raises:
      ConfigError: a rule is not (regex, rank), matches nothing or an array that is not a kernel, or
        its rank is larger than the largest rank of a kernel.
    """
    rules = checked_rules(options["rules"], _RULES, _rank, "rank")
    shapes = {_MODEL + p: leaf.shape for p, leaf in flatten_dict(blank, sep="/").items()}
    check_matches(rules, list(shapes), _RULES)
    ranks = []
    for path, shape in shapes.items():
        rank = value_for(path, rules, 0)
        if not rank:
            continue
        rule = next((regex, r) for regex, r in rules if re.fullmatch(regex, path))
        if not is_kernel(path, shape):
            raise ConfigError(
                f"{_RULES}: {rule} matches {path} {shape}, which is no kernel; end the regex in "
                "/kernel"
            )
        if rank > min(matrix_shape(shape)):
            raise ConfigError(
                f"{_RULES}: {rule} has a larger rank than {path}, a matrix of "
                f"{' x '.join(map(str, matrix_shape(shape)))}"
            )
        ranks.append((path.removeprefix(_MODEL), rank))
    return Adapters(tuple(ranks), options["alpha"])


def is_adapter(path: str) -> bool:
    """Whether the path of a parameter is that of an A or a B."""
    return path.rpartition("/")[2] in (A, B)


def _beside(path: str) -> tuple[str, str]:
    """The paths of A and B for the path of a kernel."""
    layer = path.removesuffix("kernel")
    return layer + A, layer + B


def _rank(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a rank is a whole number of at least 1, or 0 for no adapter")
    return value
