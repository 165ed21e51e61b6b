"""Random weights of EfficientNet-Lite0 that two programs make alike, each seeded by its name."""

import zlib

import numpy as np


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A state dict in these shapes; activations keep their size, and some pass 6."""
    return {name: _array(name, tuple(shape)) for name, shape in shapes.items()}


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    layer, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return np.array(1000, np.int64)
    if kind == "running_var":
        # Small ones tell one epsilon from another.
        array = np.exp(rng.uniform(-3, 0.5, shape))
    elif "_bn" in layer and kind == "weight":
        array = rng.uniform(0.5, 1.5, shape)
    elif "_bn" in layer:
        array = rng.normal(0, 0.5, shape)
    else:
        array = rng.normal(0, (0.5 / np.prod(shape[1:])) ** 0.5, shape)
    return array.astype(np.float32)


def random_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Pixels 0..255 [B,H,W,3]."""
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)
