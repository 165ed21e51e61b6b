"""Parameters and feature maps of the whole networks; shapes alone, nothing is computed."""

import math

import jax
import jax.numpy as jnp
import pytest

from fgmm import components
from tests.models.small import abstract


def vit(width, depth, patch, attentions=1):
    """Parameters of a transformer whose keys, queries and values have no bias."""
    attention = 4 * width**2 + width + 2 * width
    block = attentions * attention + 8 * width**2 + 5 * width + 2 * width
    return patch * width + width + depth * block + 2 * width


VIDEO, AUDIO = (1, 16, 224, 224, 3), (1, 1024, 128)
# torchvision counts 31,505,325 with 400 classes.
R2PLUS1D = 31_505_325 - 400 * (512 + 1)
# torchvision counts 25,557,032 and 11,689,512 with 1,000 classes; a spectrogram has one channel.
RESNET50 = 25_557_032 - 1000 * (2048 + 1)
RESNET18 = 11_689_512 - 1000 * (512 + 1)
LESS_STEM = 7 * 7 * 2 * 64


@pytest.mark.parametrize(
    ("room", "name", "options", "parameters", "grid", "width"),
    [
        # The video part of the state dict published with MIL-NCE, without fc.
        ("video", "s3d", {}, 9_146_000, (2, 7, 7), 1024),
        ("video", "s3d", {"stem": "7x7", "final_endpoint": "mixed_4f"}, None, (4, 14, 14), 832),
        ("video", "s3d", {"final_endpoint": "mixed_3c"}, None, (8, 28, 28), 480),
        ("video", "tsm_resnet50", {"version": 1}, RESNET50, (16, 7, 7), 2048),
        ("video", "tsm_resnet50", {}, 23_500_352, (16, 7, 7), 2048),
        ("video", "r2plus1d18", {}, R2PLUS1D, (2, 14, 14), 512),
        # The published state dict without its classifier.
        ("video", "efficientnet_lite0", {}, 3_371_008, (16, 7, 7), 1280),
        # OpenAI's ViT-B/16 and SigLIP's, without a projection.
        ("video", "clip", {}, 86_192_640 - 768 * 512, (16, 14, 14), 768),
        ("video", "siglip", {}, 92_884_224, (16, 14, 14), 768),
        # ``transformers`` counts 86,580,480 with a token of pre-training, and 86,227,200 without
        # biases of keys.
        ("video", "dinov2", {}, 86_580_480 - 768, (16, 16, 16), 768),
        ("video", "videomae", {}, 86_227_200 + 12 * 768, (8, 14, 14), 768),
        ("video", "vivit", {}, vit(384, 12, 2 * 16 * 16 * 3, 2), (8, 14, 14), 384),
        (
            "video",
            "vivit",
            {"width": 768, "heads": 12},
            vit(768, 12, 2 * 16 * 16 * 3, 2),
            (8, 14, 14),
            768,
        ),
        ("audio", "resnet18", {"version": 1}, RESNET18 - LESS_STEM, (32, 4), 512),
        ("audio", "resnet50", {"version": 1}, RESNET50 - LESS_STEM, (32, 4), 2048),
        ("audio", "resnet50", {}, 23_500_352 - LESS_STEM, (32, 4), 2048),
        # The paper's 1,212 patches of ten seconds.
        ("audio", "ast", {}, vit(768, 12, 16 * 16), (101, 12), 768),
    ],
)
def test_parameters_and_feature_map(room, name, options, parameters, grid, width):
    encoder = components.build(f"models.{room}", {"name": name, **options}, key="model")
    inputs = jnp.zeros(VIDEO if room == "video" else AUDIO)
    found, shape, variables = abstract(encoder, inputs, jnp.ones(1, bool))
    assert (found, shape) == (grid, (1, math.prod(grid), width))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert parameters is None or count == parameters
    assert set(variables) <= {"params", "batch_stats"}
