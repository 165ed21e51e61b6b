"""Encoders small enough for tests, and variables for them without compiling their initialisation.

``SMALL[modality][name]`` are options; an encoder without an entry is small by itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fgmm import components

SMALL = {
    "video": {
        "resnet2plus1d": {"widths": (16, 32), "temporal_strides": (1, 2)},
        "s3d": {"width_multiplier": 0.125, "final_endpoint": "mixed_3b"},
        "tsm_resnet50": {"blocks": (1, 1), "width": 8},
        "r2plus1d18": {"blocks": (1, 1), "width": 8},
        "vivit": {"width": 32, "depth": 2, "heads": 2},
        "efficientnet_lite0": {"blocks": (1, 1), "momentum": 0.9},
        "clip": {"width": 32, "depth": 2, "heads": 2, "hidden": 64},
        "siglip": {"width": 32, "depth": 2, "heads": 2, "hidden": 64},
        "dinov2": {"width": 32, "depth": 1, "heads": 2, "hidden": 64, "patch": 16, "registers": 2},
        "videomae": {"width": 32, "depth": 1, "heads": 2, "hidden": 64},
    },
    "audio": {
        "resnet": {"widths": (16, 32)},
        "resnet18": {"blocks": (1, 1), "width": 8},
        "resnet50": {"blocks": (1, 1), "width": 8},
        "ast": {"width": 32, "depth": 2, "heads": 2},
    },
    "text": {
        "phrase_transformer": {"width": 32, "depth": 1, "heads": 2},
        "phrase_bag": {"width": 32, "hidden": 64},
        "clip": {"width": 32, "depth": 2, "heads": 2, "hidden": 64, "end_token": 9},
        "siglip": {"width": 32, "depth": 2, "heads": 2, "hidden": 64},
    },
}


def small(modality: str, name: str, **options) -> dict:
    """The config entry of an encoder of few parameters."""
    return {"name": name, **SMALL[modality].get(name, {}), **options}


def build(modality: str, name: str, **options):
    """A small encoder; of text, for 10 tokens and 3 phrases."""
    fixed = {"vocabulary": 10, "phrases": 3} if modality == "text" else {}
    entry = small(modality, name, **options)
    return components.build(f"models.{modality}", entry, key=f"model.{modality}", **fixed)


def abstract(encoder, *inputs):
    """The grid, and the shapes of the local features and of the variables; computes nothing."""
    found = []

    def init(key):
        tokens, variables = encoder.init_with_output(key, *inputs, False)
        found.append(tokens.grid)
        return tokens.local, variables

    local, variables = jax.eval_shape(init, jax.random.key(0))
    return found[0], local.shape, variables


def variables_of(encoder, *inputs, seed: int = 0):
    """Variables as of a network in training, with statistics and scales that are not 0 and 1."""
    generator = np.random.default_rng(seed)
    filled = {}
    for path, leaf in flatten_dict(abstract(encoder, *inputs)[2]).items():
        if path[-1] in ("scale", "var"):
            value = generator.uniform(0.7, 1.3, leaf.shape)
        elif path[-1] in ("bias", "mean"):
            value = 0.1 * generator.standard_normal(leaf.shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if path[-1] == "kernel" else 1
            value = generator.standard_normal(leaf.shape) / np.sqrt(fan_in)
        filled[path] = jnp.asarray(value, leaf.dtype)
    return unflatten_dict(filled)
