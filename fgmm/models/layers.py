"""Layers that several encoders share.

An encoder's ``dtype`` is the dtype of its activations. Parameters are always float32, and the
statistics of a batch are computed in float32.
"""

import functools
import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fgmm.config.option import check_options, option
from fgmm.config.regex_rules import checked_rules
from fgmm.models.embeddings import AnyArray

DTYPES = ("float32", "bfloat16", "float16")

# Rules (regex, policy): which blocks are computed again in the backward pass; see ``rematted``.
RematRules = tuple[tuple[str, str], ...]
REMAT_POLICIES = (
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
)


class BaseEncoder(nn.Module, kw_only=True):
    """The options that every encoder has.

    Attributes:
      dtype: dtype of the activations.
      remat: rules (regex, policy) on its blocks; see ``rematted``.

    Raises:
      ConfigError: an option is wrong.
    """

    dtype: str = option("float32", choices=DTYPES)
    remat: RematRules = ()

    def __post_init__(self):
        super().__post_init__()
        check_options(self)
        checked_rules(self.remat, "remat", _policy, "policy")


def _policy(name: str) -> str:
    if name not in REMAT_POLICIES:
        raise ValueError(f"{name!r} is unknown; allowed: {', '.join(REMAT_POLICIES)}")
    return name


def rematted(
    block: Callable, name: str, rules: RematRules, static_argnums: tuple[int, ...] = (3,)
) -> Callable:
    """A block, computed again in the backward pass (``jax.checkpoint``) if a rule says so.

    Give the module its ``name`` explicitly, because a default name would depend on the rules.

    Args:
      block: the class of a module called as ``(x, mask, train)``, all by position, or a function
        of a module and arrays.
      name: name of the module that will be made.
      rules: pairs (regex, name in ``jax.checkpoint_policies``). A block follows the first rule
        whose regex matches its whole name. Without a rule it saves everything.
      static_argnums: positions of the arguments that are not arrays, such as ``train``; the module
        itself is argument 0.
    """
    for pattern, policy in rules:
        if re.fullmatch(pattern, name):
            if policy == "everything_saveable":
                return block
            kept = getattr(jax.checkpoint_policies, policy)
            return nn.remat(block, policy=kept, static_argnums=static_argnums)
    return block


class BatchNorm(nn.Module):
    """Batch normalisation over valid clips only.

    On a mesh the batch is one global array, so the statistics are those of the global batch.

    Attributes:
      momentum: decay of the running statistics.
      epsilon: added to the variance.
      dtype: dtype of the result.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "M *grid E"], mask: Bool[Array, "M"], train: bool
    ) -> Float[Array, "M *grid E"]:
        # Without a valid clip the statistics would be 0/0; then all clips count, to keep them
        # finite.
        mask = mask | ~jnp.any(mask)
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - 1))
        options = {"momentum": self.momentum, "epsilon": self.epsilon, "dtype": self.dtype}
        return _Normalisation(**options, name="BatchNorm_0")(x, mask, train)


class _Normalisation(nn.Module):
    """The same as ``flax.linen.BatchNorm``, with variables of the same names, but twice as fast in
    training on a CPU. The mask is [M,1,...,1].
    """

    momentum: float
    epsilon: float
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "M *grid E"], mask: Bool[Array, "M *ones"], train: bool
    ) -> Float[Array, "M *grid E"]:
        width = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, width)
        bias = self.param("bias", nn.initializers.zeros, width)
        mean = self.variable("batch_stats", "mean", jnp.zeros, width)
        variance = self.variable("batch_stats", "var", jnp.ones, width)
        if not train:
            y = _scaled(x, mean.value, variance.value, scale, bias, self.epsilon)
            return y.astype(self.dtype)
        y, *of_batch = _normalised(x, mask, scale, bias, self.epsilon)
        if not self.is_initializing():
            for running, new in zip((mean, variance), of_batch, strict=True):
                new = jax.lax.stop_gradient(new)
                running.value = self.momentum * running.value + (1 - self.momentum) * new
        return y.astype(self.dtype)


def _scaled(x, mean, variance, scale, bias, epsilon):
    factor = jax.lax.rsqrt(variance + epsilon) * scale
    mean, factor, bias = (_of_channels(v, x.ndim) for v in (mean, factor, bias))
    return (x - mean) * factor + bias


def _of_channels(v: Float[AnyArray, "E"], ndim: int) -> Float[AnyArray, "*ones E"]:
    """Reshaped to broadcast against an array of ``ndim`` axes with channels last."""
    return v.reshape((1,) * (ndim - 1) + v.shape)


def _channel_sums(x: Float[Array, "*rest E"]) -> Float[Array, "E"]:
    """Sums over all axes but the last. XLA on a CPU is slow at such sums, but fast at matrix
    products.
    """
    return jax.lax.platform_dependent(
        x.reshape(-1, x.shape[-1]),
        cpu=lambda rows: jnp.ones(len(rows), rows.dtype) @ rows,
        default=lambda rows: jnp.sum(rows, axis=0),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalised(
    x: Float[Array, "M *grid E"],
    mask: Bool[Array, "M *ones"],
    scale: Float[Array, "E"],
    bias: Float[Array, "E"],
    epsilon: float,
) -> tuple[Float[Array, "M *grid E"], Float[Array, "E"], Float[Array, "E"]]:
    """Normalises all clips by the statistics of the valid ones, in float32. Also returns these
    statistics; no gradient flows through them. The gradient of the result is in Ioffe and Szegedy,
    arXiv 1502.03167, section 3.
    """
    return _normalised_forward(x, mask, scale, bias, epsilon)[0]


def _normalised_forward(x, mask, scale, bias, epsilon):
    count = jnp.sum(mask) * (x[0, ..., 0].size)
    valid = jnp.where(mask, x.astype(jnp.float32), 0)
    mean = _channel_sums(valid) / count
    variance = jnp.maximum(_channel_sums(jnp.square(valid)) / count - jnp.square(mean), 0)
    result = (_scaled(x, mean, variance, scale, bias, epsilon), mean, variance)
    return result, (x, mask, scale, mean, variance, count)


def _normalised_backward(epsilon, kept, gradients):
    x, mask, scale, mean, variance, count = kept
    dy = gradients[0].astype(jnp.float32)
    inverse = jax.lax.rsqrt(variance + epsilon)
    centred = x - _of_channels(mean, x.ndim)
    d_bias = _channel_sums(dy)
    d_scale = _channel_sums(dy * centred) * inverse
    shift, slope, factor = (
        _of_channels(v, x.ndim) for v in (d_bias, inverse * d_scale, inverse * scale)
    )
    dx = (dy - jnp.where(mask, (shift + centred * slope) / count, 0)) * factor
    return dx.astype(x.dtype), None, d_scale, d_bias


_normalised.defvjp(_normalised_forward, _normalised_backward)


class GroupNorm(nn.Module):
    """Normalisation of each clip by its own statistics, over groups of 8 channels (Wu and He, arXiv
    1803.08494). It takes the arguments of ``BatchNorm``.

    Attributes:
      dtype: dtype of the result.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "M *grid E"], mask: Bool[Array, "M"], train: bool
    ) -> Float[Array, "M *grid E"]:
        del mask, train
        return nn.GroupNorm(num_groups=None, group_size=8, dtype=self.dtype)(x)


NORMS = {"batch": BatchNorm, "group": GroupNorm}


class ConvBlock2D(nn.Module):
    """Convolution without bias, batch normalisation, optionally ReLU.

    Attributes:
      width: output channels.
      kernel, stride: along both axes, or (rows, columns).
      activate: whether a ReLU follows.
      dtype: dtype of the activations.
    """

    width: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    activate: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "M *frames H W E"], mask: Bool[Array, "M"], train: bool
    ) -> Float[Array, "M *frames h w F"]:
        x = nn.Conv(self.width, self.kernel, self.stride, "SAME", use_bias=False, dtype=self.dtype)(
            x
        )
        x = BatchNorm(dtype=self.dtype)(x, mask, train)
        return nn.relu(x) if self.activate else x


def max_pool(
    x: Float[Array, "B *grid E"], axis: int, kernel: int, stride: int, low: int | None = None
) -> Float[Array, "B *pooled E"]:
    """The maximum over windows along one axis; n elements give ceil(n / stride).

    To pool over several axes, call it once for each. It takes maxima of shifted slices, which the
    compiler fuses and whose gradient needs no scatter.

    Args:
      x: any feature map.
      axis: the axis to pool over.
      kernel, stride: length of the windows, and the distance between them.
      low: padding before the first element; None for the padding of "SAME".
    """
    size = x.shape[axis]
    results = -(-size // stride)
    needed = max(0, (results - 1) * stride + kernel - size)
    low = needed // 2 if low is None else low
    high = max(0, needed - low)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (low, high)
    x = jnp.pad(x, widths, constant_values=jnp.finfo(x.dtype).min)
    last = (results - 1) * stride + 1
    pooled = jax.lax.slice_in_dim(x, 0, last, stride, axis)
    for shift in range(1, kernel):
        window = jax.lax.slice_in_dim(x, shift, shift + last, stride, axis)
        pooled = jnp.maximum(pooled, window)
    return pooled
