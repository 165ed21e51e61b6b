"""What converters of single towers in Hugging Face's layout of vision transformers share."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from fgmm.convert import towers
from fgmm.convert.converted import Take, as_is, identity
from fgmm.convert.published import PublishedModel

# The layers of a block.
ATTENTION = {
    "attention": tuple(
        f"encoder.layer.{{}}.attention.attention.{part}" for part in ("query", "key", "value")
    ),
    "out": ("encoder.layer.{}.attention.output.dense",),
}
BLOCK = {
    **ATTENTION,
    "norm1": ("encoder.layer.{}.layernorm_before",),
    "norm2": ("encoder.layer.{}.layernorm_after",),
    "first": ("encoder.layer.{}.intermediate.dense",),
    "second": ("encoder.layer.{}.output.dense",),
}


def of_batch(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array without its leading axes of length 1."""
    fits = array.shape == (1,) * (array.ndim - len(shape)) + shape
    return array.reshape(shape) if fits else array


# Arrays of an encoder that are not of a block, as most models name them.
OTHERS = {
    "embedding/bias": Take(("embeddings.patch_embeddings.projection.bias",), as_is),
    "positions": Take(("embeddings.position_embeddings",), of_batch),
    "norm/scale": Take(("layernorm.weight",), as_is),
    "norm/bias": Take(("layernorm.bias",), as_is),
}


def encoder_alone(published: PublishedModel, prefix: str) -> PublishedModel:
    """The model with its encoder's arrays alone, their ``prefix`` removed. What is left out is
    printed.

    A model without any such prefix is an encoder alone and is returned as it is.
    """
    arrays = published.arrays
    inner = {name for name in arrays if name.startswith(prefix)}
    if not inner:
        return published
    if others := sorted({name.partition(".")[0] for name in arrays.keys() - inner}):
        print(f"left out: {len(arrays) - len(inner)} arrays of {', '.join(others)}")
    return dataclasses.replace(
        published, arrays={name.removeprefix(prefix): arrays[name] for name in inner}
    )


def take_of(
    modality: str, blocks: Mapping[str, tuple[str, ...]], others: Mapping[str, Take]
) -> Callable[[str], Take]:
    """Where arrays of a run of one tower come from; its heads start as the identity.

    Args:
      modality: of the tower.
      blocks: names of the layers of a block, as in ``towers.block``.
      others: takes of the encoder's other arrays by their paths in it.
    """

    def take(path: str) -> Take:
        _, part, rest = path.split("/", 2)
        if part != f"encoders_{modality}":
            return Take((), identity)
        return towers.block(rest, blocks) or others[rest]

    return take
