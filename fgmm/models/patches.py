"""Patches of pictures and spectrograms as tokens: positions, and training on a part of them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


def sincos_positions(grid: tuple[int, int], width: int) -> Float[np.ndarray, "a b E"]:
    """Fixed position embeddings of a grid of any size (Chen et al., "An Empirical Study of Training
    Self-Supervised Vision Transformers", arXiv 2104.02057, section 4: sine and cosine in 2-D).

    A quarter of the channels each: sine and cosine of the first axis, sine and cosine of the
    second. Frequencies are 10,000^(-i / (E/4)).

    Raises:
      ValueError: ``width`` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width={width} must be a multiple of 4")
    frequency = 10_000.0 ** (-np.arange(width // 4) / (width // 4))

    def waves(size: int) -> np.ndarray:
        angle = np.arange(size)[:, None] * frequency
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

    rows, columns = np.meshgrid(*map(np.arange, grid), indexing="ij")
    both = np.concatenate([waves(grid[0])[rows], waves(grid[1])[columns]], axis=-1)
    return both.astype(np.float32)


def sequence_positions(length: int, width: int) -> Float[np.ndarray, "N E"]:
    """Fixed position embeddings of a sequence (Vaswani et al., arXiv 1706.03762, section 3.5): sine
    and cosine of each frequency in neighbouring channels.
    """
    frequency = 10_000.0 ** (-(np.arange(width) // 2 * 2) / width)
    angle = np.arange(length)[:, None] * frequency
    return np.where(np.arange(width) % 2, np.cos(angle), np.sin(angle)).astype(np.float32)


def resized_positions(
    table: Float[Array, "*before E"], grid: tuple[int, ...], antialias: bool = False
) -> Float[Array, "*after E"]:
    """Position embeddings interpolated from one grid to another; unchanged if the grids are equal.

    Cubic convolution (Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing"),
    which PyTorch calls bicubic. With a = -3/4 and repeated edges it is the interpolation that
    ``transformers`` uses for CLIP, SigLIP and DINOv2.

    Args:
      table: position embeddings on a grid with any number of axes.
      grid: the sizes of the new grid, one for each of these axes.
      antialias: a = -1/2 and, if the new grid is smaller, wider kernels, as for DINOv2 with
        registers.
    """
    for axis, sizes in enumerate(zip(table.shape[:-1], grid, strict=True)):
        if sizes[0] != sizes[1]:
            weights = (_antialiased if antialias else _cubic)(*sizes)
            table = jnp.moveaxis(jnp.tensordot(weights, table, (1, axis)), 0, axis)
    return table


def interpolation_note(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """A note for the user if positions of one grid are used on another; otherwise empty."""
    if tuple(before) == tuple(after):
        return ""
    sizes = " to ".join(" x ".join(map(str, grid)) for grid in (before, after))
    return f"positions are interpolated, {sizes}"


def _keys(distance: Float[np.ndarray, "*n"], a: float) -> Float[np.ndarray, "*n"]:
    """The kernel of cubic convolution."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _cubic(before: int, after: int) -> Float[np.ndarray, "after before"]:
    """The weights of the old points of a line in each new point."""
    places = (np.arange(after) + 0.5) * before / after - 0.5
    first = np.floor(places).astype(int) - 1
    weights = np.zeros((after, before))
    for tap in range(4):
        at = np.clip(first + tap, 0, before - 1)
        np.add.at(weights, (np.arange(after), at), _keys(np.abs(places - (first + tap)), -0.75))
    return weights.astype(np.float32)


def _antialiased(before: int, after: int) -> Float[np.ndarray, "after before"]:
    """As ``_cubic``, with a kernel that is wider by before / after if there are fewer new points,
    and with weights only on points that exist.
    """
    scale = before / after
    places = (np.arange(after) + 0.5) * scale - 0.5
    distance = np.abs(places[:, None] - np.arange(before)) / max(1.0, scale)
    weights = _keys(distance, -0.5)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def draw_kept(key: PRNGKeyArray, clips: int, cells: int, dropped: float) -> Int[Array, "B kept"]:
    """The random cells of each clip that are kept if the share ``dropped`` is left out: their
    numbers in rising order, at least one.
    """
    kept = max(1, round(cells * (1 - dropped)))
    order = jnp.argsort(jax.random.uniform(key, (clips, cells)), axis=1)
    return jnp.sort(order[:, :kept], axis=1)


def kept_only(x: Float[Array, "B T N E"], kept: Int[Array, "B kept"]) -> Float[Array, "B T kept E"]:
    """The kept cells of each clip, the same at each step of time."""
    return jnp.take_along_axis(x, kept[:, None, :, None], axis=2)


def restored(
    x: Float[Array, "B T kept E"], kept: Int[Array, "B kept"], cells: int
) -> tuple[Float[Array, "B T N E"], Bool[Array, "B N"]]:
    """The inverse of ``kept_only``, with zeros in the other cells; and the mask of kept cells."""
    batch, time, _, width = x.shape
    clip = jnp.arange(batch)[:, None]
    whole = jnp.zeros((batch, cells, time, width), x.dtype).at[clip, kept].set(x.swapaxes(1, 2))
    return whole.swapaxes(1, 2), jnp.zeros((batch, cells), bool).at[clip, kept].set(True)
