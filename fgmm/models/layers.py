"""Layers that several encoders share."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class BatchNorm(nn.Module):
    """Batch normalisation over valid clips only.

    On a mesh the batch is one global array, so the statistics are those of the global batch.

    Attributes:
      momentum: of the running statistics.
    """

    momentum: float = 0.9

    @nn.compact
    def __call__(
        self, x: Float[Array, "M *grid E"], mask: Bool[Array, "M"], train: bool
    ) -> Float[Array, "M *grid E"]:
        # With no valid clip at all the statistics would be 0/0; any finite ones will do then.
        mask = mask | ~jnp.any(mask)
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - 1))
        return nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x, mask=mask)


class ConvBlock2D(nn.Module):
    """Convolution without bias, batch normalisation, optionally ReLU; "SAME" padding.

    Attributes:
      width: output channels.
      kernel, stride: along both axes, or (rows, columns).
      activate: whether a ReLU follows.
    """

    width: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    activate: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "M H W E"], mask: Bool[Array, "M"], train: bool
    ) -> Float[Array, "M h w F"]:
        x = nn.Conv(self.width, self.kernel, self.stride, use_bias=False)(x)
        x = BatchNorm()(x, mask, train)
        return nn.relu(x) if self.activate else x
