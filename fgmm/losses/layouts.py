"""Which captions a block of ``blockwise`` compares its clips with.

``AllPairs``
    Every clip with every caption. All b clips of a block have the same c captions: one product
    [b·N, D] × [D, P·c].

``ValidPhrases``
    Every clip with every valid phrase, for pools over n only. Phrases take the place of captions,
    with P = 1, and valid phrases come first. Groups without a valid phrase are not computed, so
    that padding costs nothing. Only used on a CPU, where a condition costs little.

``Candidates``
    Every clip with K candidates of its own, c of them in a block: b products [N, D] × [D, P·c].
    Candidates are gathered from all captions when a block is computed, so that [B,K,P,D] is never
    in memory. The gradients of captions are added clip by clip, and no clip has a caption twice, so
    every sum has the same order on any device.

All layouts have the same functions. ``place`` says where a block's captions are: the number of
their group, or the indices [b,c] of candidates. An index of C or more means no caption: its
embeddings are 0, and its gradients are dropped. A group is skipped if its number is at least the
number of groups.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from fgmm.losses.collectives import varying_alike


class BlockShape(NamedTuple):
    """The shape of a block of a."""

    b: int
    N: int
    P: int
    c: int


class AllPairs:
    """Every clip with every caption; see the module."""

    @staticmethod
    def places(chosen, shape, clips, captions):
        """The place of each block, [B/b, C/c, ...]."""
        groups = -(-clips // shape.b), -(-captions // shape.c)
        return jnp.broadcast_to(jnp.arange(groups[1], dtype=jnp.int32), groups)

    @staticmethod
    def computed(place, y, compute):
        """``compute()``, or zeros for a block that is skipped."""
        return compute()

    @staticmethod
    def of_embeddings(y, c):
        """[C,P,D] as [C/c, D, P·c]."""
        y = jnp.transpose(grouped(y, c), (0, 3, 2, 1))
        return y.reshape(*y.shape[:2], -1)

    @staticmethod
    def of_phrases(v, c, fill=0):
        """[C,P] as [C/c,1,1,P,c], to be broadcast against blocks."""
        return jnp.swapaxes(grouped(v, c, fill), 1, 2)[:, None, None]

    @staticmethod
    def rows(y):
        """Embeddings as ``gradient_of_x`` needs them, [C/c, P·c, D]."""
        return jnp.swapaxes(y, 1, 2)

    @staticmethod
    def embeddings_at(place, y):
        """The embeddings of a block's captions."""
        return lax.dynamic_index_in_dim(y, place, 0, keepdims=False)

    phrases_at = embeddings_at

    @staticmethod
    def local_similarities(x, y, shape, precision):
        """A block of a, [b,N,P,c]."""
        return product(x, y, (1, 0), precision).reshape(shape)

    @staticmethod
    def gradient_of_x(da, y_rows, precision):
        """[b·N, D]."""
        b, N, P, c = da.shape
        return product(*_alike(da.reshape(b * N, P * c), y_rows), (1, 0), precision)

    @staticmethod
    def gradient_of_y(x, da, precision):
        b, N, P, c = da.shape
        return product(*_alike(x, da.reshape(b * N, P * c)), (0, 0), precision)

    @staticmethod
    def add_embeddings(total, more, place):
        """``total`` with the gradients ``more`` of a block's captions added."""
        more += lax.dynamic_index_in_dim(total, place, 0, keepdims=False)
        return lax.dynamic_update_index_in_dim(total, more, place, 0)

    add_phrases = add_embeddings


class ValidPhrases(AllPairs):
    """Every clip with every valid phrase; see the module."""

    @staticmethod
    def places(valid: Int[Array, ""], shape, clips, captions):
        """As in ``AllPairs``; ``valid`` is the number of valid phrases."""
        places = AllPairs.places(None, shape, clips, captions)
        return jnp.where(places * shape.c < valid, places, places.shape[1])

    @staticmethod
    def computed(place, y, compute: Callable[[], Any]):
        shapes = jax.eval_shape(compute)

        def alike(results):
            """Within ``shard_map`` both branches vary over the same axes."""
            return varying_alike((jax.tree.map(jnp.asarray, results), y))[0]

        return lax.cond(
            place < len(y),
            lambda: alike(compute()),
            lambda: alike(jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)),
        )


class Candidates:
    """Every clip with K candidates of its own; see the module."""

    @staticmethod
    def places(candidates: Int[Array, "B K"], shape, clips, captions):
        (B, K), (b, _, _, c) = candidates.shape, shape
        padding = ((0, -B % b), (0, -K % c))
        candidates = jnp.pad(candidates, padding, constant_values=captions)
        # All numbers of a clip must differ, those of empty slots too.
        nothing = captions + jnp.arange(candidates.shape[1], dtype=candidates.dtype)[None]
        candidates = jnp.where(candidates < captions, candidates, nothing)
        return jnp.swapaxes(candidates.reshape(-1, b, candidates.shape[1] // c, c), 1, 2)

    computed = AllPairs.computed

    @staticmethod
    def of_embeddings(y, c):
        return y

    @staticmethod
    def of_phrases(v, c, fill=0):
        return v

    @staticmethod
    def rows(y):
        return y

    @staticmethod
    def embeddings_at(place, y):
        """From y [C,P,D]: [b, P·c, D]."""
        y = jnp.swapaxes(y.at[place].get(mode="fill", fill_value=0), 1, 2)
        return y.reshape(len(y), -1, y.shape[3])

    @staticmethod
    def phrases_at(place, v):
        """From v [C,P]: [b,1,P,c]."""
        return jnp.swapaxes(v.at[place].get(mode="fill", fill_value=1), 1, 2)[:, None]

    @staticmethod
    def local_similarities(x, y, shape, precision):
        x = x.reshape(shape.b, shape.N, -1)
        return product(x, y, (2, 2), precision).reshape(shape)

    @staticmethod
    def gradient_of_x(da, y_rows, precision):
        b, N, P, c = da.shape
        dx = product(*_alike(da.reshape(b, N, P * c), y_rows), (2, 1), precision)
        return dx.reshape(b * N, -1)

    @staticmethod
    def gradient_of_y(x, da, precision):
        b, N, P, c = da.shape
        da, x = _alike(da.reshape(b, N, P * c), x.reshape(b, N, -1))
        return product(da, x, (1, 1), precision)

    @staticmethod
    def add_embeddings(total, more, place):
        b, c = place.shape
        return _added_by_clip(total, more.reshape(b, -1, c, more.shape[2]), place)

    @staticmethod
    def add_phrases(total, more, place):
        return _added_by_clip(total, more[:, 0], place)


def _added_by_clip(total, more, place):
    """total [C,P,...] with more [b,P,c,...] added at place [b,c]."""

    def add(total, clip):
        more, place = clip
        return total.at[place].add(more, mode="drop", unique_indices=True), None

    return lax.scan(add, total, (jnp.swapaxes(more, 1, 2), place))[0]


def product(u, v, contracted, precision):
    """The product of u and v over one axis of each; axes before the last two are batch axes."""
    dtype = jnp.promote_types(jnp.promote_types(u.dtype, v.dtype), jnp.float32)
    batch = tuple(range(u.ndim - 2))
    axes = tuple((axis,) for axis in contracted), (batch, batch)
    return lax.dot_general(u, v, axes, precision=precision, preferred_element_type=dtype)


def _alike(u, v):
    """The operands of a product in one dtype.

    It is bfloat16 for bfloat16 embeddings, since their gradients are bfloat16 in the end and such
    products are fast. float16 is not used: its range is too small.
    """
    narrow = jnp.bfloat16 in (u.dtype, v.dtype)
    dtype = jnp.bfloat16 if narrow else jnp.promote_types(u.dtype, v.dtype)
    return u.astype(dtype), v.astype(dtype)


def grouped(v, group, fill=0):
    """[B, ...] as [B/group, group, ...], the last group padded with ``fill``."""
    padding = [(0, -len(v) % group), *[(0, 0)] * (v.ndim - 1)]
    return jnp.pad(v, padding, constant_values=fill).reshape(-1, group, *v.shape[1:])
