"""The three kernels of ``hopper``, in Pallas on its Mosaic GPU backend.

All of them work on flat matrices: the rows of x are the local embeddings of one clip after another,
and the Q rows of y are the phrases of one caption after another. Logarithms are to base 2, for
which the device has an instruction: with z = a · scale + bias and scale = log2(e) / temperature,
the attention weights over n are 2^z divided by their sum. ``bias`` is 0 for a valid row and
``NEVER`` for others.

A thread block has two warpgroups that compute and one that fetches. Each computing warpgroup keeps
64 rows of one side in shared memory and loops over all rows of the other side. Their product, a
tile of a, stays in registers. Thread blocks share no sums, so results are the same in every run.

The idioms are those of ``jax/experimental/pallas/ops/gpu``: ``hopper_matmul_mgpu.py`` for the
pipeline and the accumulator that outlives a step, ``attention_mgpu.py`` for the rest.
"""

import functools
import math

import jax
import jax.experimental.pallas as pl
import jax.experimental.pallas.mosaic_gpu as plgpu
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, BFloat16, Float32

# As a bias it makes a weight 0, and no product with it is infinite.
NEVER = -1e15

# Rows of a warpgroup, as its matrix instruction has them.
ROWS = 64
WARPGROUPS = 2
TILE = WARPGROUPS * ROWS

# The most rows of the other side in a step. Shared memory must hold the rows of two steps.
STEP = 128

# The layout of shared memory that the matrix instruction needs.
_LAYOUT = (plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128))
# Registers of each thread that fetches; the remaining ones just suffice for threads that compute.
_MEMORY_REGISTERS = 24


def moments(
    x: BFloat16[Array, "B n D"],
    bias: Float32[Array, "B n"],
    y: BFloat16[Array, "Q D"],
    scale: Float32[Array, "1"],
    steps: int,
) -> Float32[Array, "B 4 Q"]:
    """The maximum of each z[b,:,q], and the sums for its mean and variance.

    Args:
      x, bias: local embeddings and the bias of their rows, n padded to ``steps`` equal parts.
      y: phrase embeddings, Q a multiple of ``TILE``.
      scale: log2(e) / temperature.
      steps: the number of parts of n; a part has a multiple of 8 rows, at most ``STEP``.

    Returns:
      m = max z, Σ e, Σ e·d and Σ e·d² with d = z − m and e = 2^d. Taken relative to the maximum,
      the mean and the variance suffer no cancellation, for sharp and for uniform weights.
    """
    B, n, D = x.shape
    Q, width = len(y), n // steps

    def body(x_ref, bias_ref, y_ref, scale_ref, out_ref, y_smem, out_smem, barrier):
        warpgroup = lax.axis_index("warpgroup")
        rows = pl.ds((lax.axis_index("tile") * WARPGROUPS + warpgroup) * ROWS, ROWS)
        scale = scale_ref[0]

        def compute(pipeline):
            _fetch([(y_ref.at[rows], y_smem.at[warpgroup])], barrier.at[warpgroup])
            zeros = jnp.zeros((ROWS,), jnp.float32)
            pipeline((zeros, zeros, zeros, zeros))
            plgpu.wait_smem_to_gmem(0)

        def step(indices, x_smem, bias_smem, before):
            b, j = indices
            a = _product(y_smem.at[warpgroup], x_smem, width)
            z = a * scale + _along(1, bias_smem[0, :width], width)
            m = jnp.max(z, axis=1)
            if steps > 1:
                # In its first step a clip starts with a maximum below all values.
                going_on = (j > 0).astype(jnp.float32)
                last = before[0] * going_on + NEVER * (1 - going_on)
                m = jnp.maximum(m, last)
            d = z - _along(0, m, width)
            e = jnp.exp2(d)
            sums = [jnp.sum(e, axis=1), jnp.sum(e * d, axis=1), jnp.sum(e * d * d, axis=1)]
            if steps > 1:
                sums = [s + r for s, r in zip(sums, _moved(before[1:], last - m), strict=True)]

            @pl.when(j == steps - 1)
            def _():
                plgpu.wait_smem_to_gmem(0, wait_read_only=True)
                for i, value in enumerate((m, *sums)):
                    out_smem[warpgroup, i] = value
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(out_smem.at[warpgroup], out_ref.at[b, :, rows])

            return m, *sums

        _pipeline(
            step,
            compute,
            grid=(B, steps),
            specs=[
                plgpu.BlockSpec((width, D), lambda b, j: (b * steps + j, 0), transforms=_LAYOUT),
                plgpu.BlockSpec((1, STEP), lambda b, j: (b * steps + j, 0)),
            ],
        )(x_ref, bias_ref)

    kernel = _kernel(
        body,
        jax.ShapeDtypeStruct((B, 4, Q), jnp.float32),
        tiles=Q // TILE,
        scratch=[
            plgpu.SMEM((WARPGROUPS, ROWS, D), jnp.bfloat16, transforms=_LAYOUT),
            plgpu.SMEM((WARPGROUPS, 4, ROWS), jnp.float32),
            plgpu.Barrier(num_barriers=WARPGROUPS),
        ],
    )
    # Copies must start at a multiple of 128 bytes, and so must a step's part of the bias.
    bias = jnp.pad(bias.reshape(-1, width), ((0, 0), (0, STEP - width)))
    return kernel(x.reshape(-1, D), bias, y, scale)


def _moved(sums, by):
    """Sums of e, e·d and e·d² after d has grown by ``by``."""
    factor = jnp.exp2(by)
    zeroth, first, second = sums
    first_moved = first + by * zeroth
    second_moved = second + by * (first + first_moved)
    return factor * zeroth, factor * first_moved, factor * second_moved


def gradient_of_x(
    x: BFloat16[Array, "R D"],
    bias: Float32[Array, "R"],
    y: BFloat16[Array, "Q D"],
    scale: Float32[Array, "1"],
    curves: Float32[Array, "clips 3 Q"],
    N: int,
) -> BFloat16[Array, "R D"]:
    """Σ_q ∂a[r,q] y_q, where ∂a = 2^h (u·h + v) with h = z − L.

    Args:
      x, bias: R rows, N for each clip, with N at least ``ROWS``.
      y, scale: as in ``moments``.
      curves: L, u and v of each clip and phrase, for ``clips_of(R, N)`` clips; zeros for clips that
        do not exist.
    """
    (R, D), Q = x.shape, len(y)

    def body(x_ref, bias_ref, y_ref, scale_ref, curves_ref, dx_ref, x_smem, bias_smem, barrier):
        tile, warpgroup = lax.axis_index("tile"), lax.axis_index("warpgroup")
        start = tile * TILE + warpgroup * ROWS
        rows = pl.ds(start, ROWS)
        first, own = lax.div(tile * TILE, N), lax.div(start, N)
        scale = scale_ref[0]

        def compute(pipeline):
            _fetch(
                [
                    (x_ref.at[rows], x_smem.at[warpgroup]),
                    (bias_ref.at[rows], bias_smem.at[warpgroup]),
                ],
                barrier.at[warpgroup],
            )

            @functools.partial(pl.run_scoped, dx=plgpu.ACC((ROWS, D), jnp.float32))
            def _(dx):
                pipeline(dx)
                _store(dx[...], x_smem.at[warpgroup], dx_ref.at[rows])

        def step(_, y_smem, curves_smem, dx):
            a = _product(x_smem.at[warpgroup], y_smem, STEP)
            for part in _parts(STEP):
                z = a[:, part] * scale + _along(0, bias_smem[warpgroup])
                curves = [
                    [_along(1, curves_smem[own - first + i, k, part]) for k in range(3)]
                    for i in range(2 if N % ROWS else 1)
                ]
                da = _derivative(z, _of_clip(0, (own + 1) * N - start, curves))
                plgpu.wgmma(dx, da.astype(jnp.bfloat16), y_smem.at[part])
            plgpu.wgmma_wait(0)
            return dx

        _pipeline(
            step,
            compute,
            grid=(Q // STEP,),
            specs=[
                plgpu.BlockSpec((STEP, D), lambda q: (q, 0), transforms=_LAYOUT),
                plgpu.BlockSpec((3, 3, STEP), lambda q: (0, 0, q)),
            ],
        )(y_ref, curves_ref.at[pl.ds(first, 3)])

    kernel = _kernel(
        body,
        jax.ShapeDtypeStruct((R, D), jnp.bfloat16),
        tiles=R // TILE,
        scratch=[
            plgpu.SMEM((WARPGROUPS, ROWS, D), jnp.bfloat16, transforms=_LAYOUT),
            plgpu.SMEM((WARPGROUPS, ROWS), jnp.float32),
            plgpu.Barrier(num_arrivals=2, num_barriers=WARPGROUPS),
        ],
    )
    return kernel(x, bias, y, scale, curves)


def gradient_of_y(
    x: BFloat16[Array, "R D"],
    bias: Float32[Array, "R"],
    y: BFloat16[Array, "Q D"],
    scale: Float32[Array, "1"],
    curves: Float32[Array, "clips 3 Q"],
    N: int,
) -> BFloat16[Array, "Q D"]:
    """Σ_r ∂a[r,q] x_r; arguments as in ``gradient_of_x``."""
    (R, D), Q = x.shape, len(y)
    step_rows = STEP if N >= STEP else ROWS

    def body(x_ref, bias_ref, y_ref, scale_ref, curves_ref, dy_ref, y_smem, barrier):
        tile, warpgroup = lax.axis_index("tile"), lax.axis_index("warpgroup")
        rows = pl.ds(tile * TILE + warpgroup * ROWS, ROWS)
        own_rows = pl.ds(warpgroup * ROWS, ROWS)
        scale = scale_ref[0]

        def compute(pipeline):
            _fetch([(y_ref.at[rows], y_smem.at[warpgroup])], barrier.at[warpgroup])

            @functools.partial(pl.run_scoped, dy=plgpu.ACC((ROWS, D), jnp.float32))
            def _(dy):
                pipeline(dy)
                _store(dy[...], y_smem.at[warpgroup], dy_ref.at[rows])

        def step(indices, x_smem, bias_smem, *of_clips_and_dy):
            (r,), (*of_clips, dy) = indices, of_clips_and_dy
            start = r * step_rows
            boundary = (lax.div(start, N) + 1) * N - start
            a = _product(y_smem.at[warpgroup], x_smem, step_rows)
            for part in _parts(step_rows):
                curves = [
                    [_along(0, curves_smem[0, k, own_rows]) for k in range(3)]
                    for curves_smem in of_clips
                ]
                z = a[:, part] * scale + _along(1, bias_smem[part])
                da = _derivative(z, _of_clip(1, boundary - part.start, curves))
                plgpu.wgmma(dy, da.astype(jnp.bfloat16), x_smem.at[part])
            plgpu.wgmma_wait(0)
            return dy

        def curves_of(i):
            return plgpu.BlockSpec((1, 3, TILE), lambda r: (lax.div(r * step_rows, N) + i, 0, 0))

        clips = range(2 if N % step_rows else 1)
        _pipeline(
            step,
            compute,
            grid=(R // step_rows,),
            specs=[
                plgpu.BlockSpec((step_rows, D), lambda r: (r, 0), transforms=_LAYOUT),
                plgpu.BlockSpec((step_rows,), lambda r: (r,)),
                *(curves_of(i) for i in clips),
            ],
        )(x_ref, bias_ref, *(curves_ref.at[:, :, pl.ds(tile * TILE, TILE)] for _ in clips))

    kernel = _kernel(
        body,
        jax.ShapeDtypeStruct((Q, D), jnp.bfloat16),
        tiles=Q // TILE,
        scratch=[
            plgpu.SMEM((WARPGROUPS, ROWS, D), jnp.bfloat16, transforms=_LAYOUT),
            plgpu.Barrier(num_barriers=WARPGROUPS),
        ],
    )
    return kernel(x, bias, y, scale, curves)


def clips_of(R: int, N: int) -> int:
    """The number of clips that a backward kernel reads for R rows; the last ones may not exist.

    The rows of a thread block belong to at most three clips.
    """
    return (R - TILE) // N + 3


def _derivative(z, curves):
    L, u, v = curves
    h = z - L
    return jnp.exp2(h) * (u * h + v)


def _of_clip(axis, boundary, curves):
    """The curves of the first clip where the index along ``axis`` is below ``boundary``, otherwise
    those of the next.

    Two clips are enough, because a clip has at least as many rows as a tile.
    """
    if len(curves) == 1:
        return curves[0]
    here, following = curves
    index = plgpu.broadcasted_iota(jnp.int32, here[0].shape, axis)
    return [jnp.where(index < boundary, *pair) for pair in zip(here, following, strict=True)]


def _along(axis, vector, width=ROWS):
    """A vector along one axis of a tile, repeated along the other."""
    return lax.broadcast_in_dim(vector, (ROWS, width), [axis])


def _parts(width):
    return [slice(start, start + ROWS) for start in range(0, width, ROWS)]


def _product(rows, columns, width):
    """A tile of a: 64 rows by ``width`` rows of the other side."""

    def multiplied(tile):
        plgpu.wgmma(tile, rows, plgpu.transpose_ref(columns, (1, 0)))
        return tile[...]

    return pl.run_scoped(multiplied, plgpu.ACC((ROWS, width), jnp.float32))


def _fetch(copies, barrier):
    for source, target in copies:
        plgpu.copy_gmem_to_smem(source, target, barrier)
    plgpu.barrier_wait(barrier)


def _store(value, smem, target):
    smem[...] = value.astype(jnp.bfloat16)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(smem, target)
    plgpu.wait_smem_to_gmem(0)


def _pipeline(step, compute, *, grid, specs):
    return plgpu.emit_pipeline_warp_specialized(
        step,
        grid=grid,
        in_specs=specs,
        compute_context=compute,
        max_concurrent_steps=min(2, math.prod(grid)),
        num_compute_wgs=WARPGROUPS,
        memory_registers=_MEMORY_REGISTERS,
        wg_axis="warpgroup",
    )


def _kernel(body, out, *, tiles, scratch):
    return plgpu.kernel(
        body,
        out_type=out,
        grid=(tiles,),
        grid_names=("tile",),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        scratch_types=scratch,
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
        ),
    )
