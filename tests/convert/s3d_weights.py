"""Random weights of S3D that two programs can make alike: each array is seeded by its name."""

import zlib

import numpy as np


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A state dict of PyTorch's in these shapes, in which activations keep their size."""
    return {name: _array(name, tuple(shape)) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    layer, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return np.array(1000, np.int64)
    if kind == "running_var" or (kind == "weight" and ".bn" in layer):
        array = rng.uniform(0.5, 1.5, shape)
    elif kind in ("bias", "running_mean"):
        array = rng.normal(0, 0.1, shape)
    elif layer.endswith("word_embd"):
        array = rng.normal(0, 1, shape)
    else:
        array = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
    return array.astype(np.float32)


def random_frames(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels 0..255 [B,T,H,W,3]."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
