"""Published towers without text give what ``transformers`` gives on the same random weights."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from fgmm import components
from fgmm.config import ConfigError
from fgmm.convert import dinov2, published
from fgmm.convert.converted import write
from fgmm.convert.families import family_of
from fgmm.data.augmentation import spectrogram
from fgmm.data.media import decode
from fgmm.experiment import build as experiments
from fgmm.train import checkpoint, init_from
from tests.convert import single_tower_folders as folders

# What ``single_towers_reference.py`` gave to each family.
CLIPS = [folders.random_clips((1, 4, 45, 61, 3))]
PICTURES = [folders.random_clips(size) for size in ((2, 1, 45, 61, 3), (1, 1, 61, 45, 3))]
GIVEN = {
    "ast": [folders.random_sound(size) for size in ((2, 9600), (1, 11200))],
    "dinov2": PICTURES,
    "dinov2_registers": PICTURES[:1],
    "videomae": CLIPS,
    "videomae_pretrained": CLIPS,
}
CLOSE = 1e-4


def converted(path, **options):
    found = published.read(path)
    return family_of(found).as_run(found, **options)


@pytest.fixture(scope="module")
def reference():
    """What ``single_towers_reference.py`` wrote."""
    with np.load(pathlib.Path(__file__).parent / "single_towers_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The small models as runs, by family."""
    folder = tmp_path_factory.mktemp("published")
    for family in folders.CONFIGS:
        folders.write(folder / family, family)
    return {family: converted(folder / family) for family in folders.CONFIGS}


_COMPILED: dict = {}


def computing(experiment):
    """Computes what ``outputs`` returns; compiled once for each experiment."""
    ((modality, encoder),) = experiment.model.encoders.items()

    def run(params, batch):
        x = experiment.transforms(batch)["log_mel" if modality == "audio" else modality]
        variables = {"params": params["model"][f"encoders_{modality}"]}
        tokens = encoder.apply(variables, x, batch[f"{modality}_mask"], False)
        return {"inputs": x, "cells": tokens.local, "pooled": tokens.coarse}

    # The experiment stays with its function, so that no other one gets its id.
    return _COMPILED.setdefault(id(experiment), (experiment, jax.jit(run)))[1]


def outputs(found, given):
    """What a run makes of waveforms or frames, by the names of the reference."""
    (modality,) = found.experiment.model.encoders
    if modality == "video":
        shape = found.experiment.shape
        sizes = (shape.frames, shape.height, shape.width)
        resized = [decode.fit_frames(clip, *sizes, resizing=shape.resizing) for clip in given]
        given = np.stack(resized)
    batch = {modality: given, f"{modality}_mask": np.ones(len(given), bool)}
    result = computing(found.experiment)(found.state.params, batch)
    return {name: np.asarray(array) for name, array in result.items()}


def furthest(found, reference, family, number=0, given=None):
    """The largest difference of each output, over the largest value."""
    ours = outputs(found, GIVEN[family][number] if given is None else given)
    differences = {}
    for name, array in ours.items():
        theirs = reference[f"{family}_{number}_{name}"]
        assert array.shape == theirs.shape, name
        differences[name] = float(np.abs(array - theirs).max() / np.abs(theirs).max())
    return differences


@pytest.mark.parametrize(
    ("family", "number"),
    [(family, n) for family, given in GIVEN.items() for n in range(len(given))],
)
def test_features_of_waveforms_and_frames(runs, reference, family, number):
    differences = furthest(runs[family], reference, family, number)
    assert max(differences.values()) < CLOSE, differences
    # VideoMAE's classifiers have features that are not normalised.
    assert 0.5 < reference[f"{family}_{number}_cells"].std() < 4


def encoding(found, **options):
    """The same run with options of its encoder changed."""
    model = found.experiment.model
    encoders = {name: encoder.clone(**options) for name, encoder in model.encoders.items()}
    experiment = dataclasses.replace(found.experiment, model=model.clone(encoders=encoders))
    return found._replace(experiment=experiment)


def hearing(found, **options):
    """The same run with options of its spectrogram changed."""
    transforms = dataclasses.replace(found.experiment.transforms, **options)
    return found._replace(experiment=dataclasses.replace(found.experiment, transforms=transforms))


def with_array(found, path, change):
    """The same run with one array changed."""
    flat = flatten_dict(found.state.params, sep="/")
    flat[path] = change(flat[path])
    return found._replace(state=found.state.replace(params=unflatten_dict(flat, sep="/")))


def rolled(table):
    return np.roll(table, 1, axis=0)


def resizing(found, **options):
    """The same run with pictures resized in another way."""
    shape = found.experiment.shape
    shape = dataclasses.replace(shape, resizing=shape.resizing._replace(**options))
    return found._replace(experiment=dataclasses.replace(found.experiment, shape=shape))


AUDIO, VIDEO = "model/encoders_audio", "model/encoders_video"
MUTATIONS = {
    "ast, epsilon": ("ast", lambda run: encoding(run, epsilon=1e-5)),
    "ast, bias": (
        "ast",
        lambda run: with_array(run, f"{AUDIO}/block_1/DenseGeneral_1/bias", np.zeros_like),
    ),
    "ast, positions": ("ast", lambda run: with_array(run, f"{AUDIO}/positions", rolled)),
    "ast, window": ("ast", lambda run: hearing(run, mel_window=0.0255)),
    "ast, GELU": ("ast", lambda run: encoding(run, activation="quick_gelu")),
    "ast, filterbank": ("ast", lambda run: hearing(run, mel_filterbank="htk")),
    "ast, spread": ("ast", lambda run: hearing(run, mel_spread=4.5689974)),
    "dinov2, epsilon": ("dinov2", lambda run: encoding(run, epsilon=1e-5)),
    "dinov2, GELU": ("dinov2", lambda run: encoding(run, activation="quick_gelu")),
    "dinov2, bias": (
        "dinov2",
        lambda run: with_array(run, f"{VIDEO}/block_1/DenseGeneral_1/bias", np.zeros_like),
    ),
    "dinov2, positions": ("dinov2", lambda run: with_array(run, f"{VIDEO}/positions", rolled)),
    "dinov2, scale": (
        "dinov2",
        lambda run: with_array(run, f"{VIDEO}/block_0/LayerScale_1/scale", np.ones_like),
    ),
    "dinov2, border": ("dinov2", lambda run: resizing(run, ratio=1.0)),
    "dinov2, filter": ("dinov2", lambda run: resizing(run, filter="bilinear")),
    "registers, interpolation": (
        "dinov2_registers",
        lambda run: encoding(run, antialias=False),
    ),
    "videomae, epsilon": ("videomae", lambda run: encoding(run, epsilon=1e-3)),
    "videomae, GELU": ("videomae", lambda run: encoding(run, activation="quick_gelu")),
    "videomae, bias": (
        "videomae",
        lambda run: with_array(run, f"{VIDEO}/block_1/DenseGeneral_0/bias", np.zeros_like),
    ),
    "videomae, positions": ("videomae", lambda run: encoding(run, positions=(4, 4, 2))),
}
# Each takes a few seconds to compile.
LONG = {
    *("ast, GELU", "ast, filterbank", "ast, spread", "dinov2, epsilon", "dinov2, GELU"),
    *("dinov2, border", "dinov2, filter", "registers, interpolation"),
    *("videomae, epsilon", "videomae, GELU", "videomae, positions"),
}


@pytest.mark.parametrize(
    "mutation",
    [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in MUTATIONS],
)
def test_another_network_differs(runs, reference, mutation):
    family, change = MUTATIONS[mutation]
    differences = furthest(change(runs[family]), reference, family)
    assert min(differences[name] for name in ("cells", "pooled")) > 2 * CLOSE, differences


def test_kaldi_emphasises_high_frequencies(runs, reference, monkeypatch):
    monkeypatch.setattr(spectrogram, "_PREEMPHASIS", 0.95)
    transforms = runs["ast"].experiment.transforms
    found = transforms({"audio": jnp.asarray(GIVEN["ast"][0])})["log_mel"]
    assert np.abs(found - reference["ast_0_inputs"]).max() > 0.01


def test_a_run_of_one_tower_has_its_conventions_and_no_loss(runs):
    config = runs["ast"].experiment.config
    assert (config.data.sample_rate, config.data.seconds) == (16000, 0.655)
    mel = {name: config.transforms[f"mel_{name}"] for name in ("window", "hop", "mean", "spread")}
    assert mel == {"window": 0.025, "hop": 0.01, "mean": -4.2677393, "spread": 2 * 4.5689974}
    assert (config.transforms.mel_bands, config.transforms.mel_length) == (32, 64)
    for found in runs.values():
        (modality,) = found.experiment.model.encoders
        assert found.experiment.tokenizer is None
        assert len(found.experiment.objective.terms) == 0
        for leaf in jax.tree.leaves(found.state.params["model"][f"heads_joint_{modality}"]):
            np.testing.assert_array_equal(leaf, np.eye(32))
        assert found.experiment.model.spaces["joint"]["pool"] == "own"


def test_pictures_and_clips_have_their_conventions(runs):
    config = runs["dinov2"].experiment.config
    assert (config.data.frames, config.data.height, config.data.width) == (1, 32, 32)
    assert (config.data.resize, config.data.resize_filter) == ("cover", "bicubic")
    assert config.data.resize_ratio == 36 / 32
    np.testing.assert_allclose(config.transforms.pixel_spread, [58.395, 57.12, 57.375])
    config = runs["videomae"].experiment.config
    assert (config.data.frames, config.data.resize_ratio) == (4, 1.0)
    np.testing.assert_allclose(config.data.seconds, 4 * 4 / 30)
    assert dinov2._USUAL.ratio * dinov2._USUAL.size == 256
    assert (
        runs["dinov2"]
        .experiment.model.encoders["video"]
        .note((1, 1, 32, 32, 3))
        .endswith("interpolated, 6 x 6 to 4 x 4")
    )
    encoder = runs["videomae"].experiment.model.encoders["video"]
    assert encoder.note((1, 4, 32, 32, 3)) == ""
    assert encoder.note((1, 1, 32, 16, 3)) == "positions are interpolated, 2 x 4 x 4 to 1 x 4 x 2"
    assert encoder.norm == "mean"
    assert runs["videomae_pretrained"].experiment.model.encoders["video"].norm == "features"


def test_a_run_takes_towers_of_several_families(runs, tmp_path):
    for family in ("ast", "dinov2"):
        write(runs[family], tmp_path / family, {"model": family})
    config, sound = (checkpoint.config_of(tmp_path / name) for name in ("dinov2", "ast"))
    config.data.update(sample_rate=sound.data.sample_rate, seconds=sound.data.seconds)
    mel = {name: value for name, value in sound.transforms.items() if name.startswith("mel_")}
    config.transforms.update(mel | {"mel_spread": 4.0})
    config.model.audio = sound.model.audio
    config.model.spaces.joint.update(modalities=("video", "audio"), width=8)
    heads = ("model/heads_.*", "initialise")
    config.init_from.update(path=str(tmp_path / "dinov2"), rules=(heads,))
    config.init_from.also = {"audio": {"path": str(tmp_path / "ast"), "rules": (heads,)}}
    given = init_from.read(experiments.build(components.complete(config)))
    lines = given.report.splitlines()
    assert any("mel_spread=4.0, and the audio encoder of" in line for line in lines)
    assert not any("the video encoder of" in line for line in lines)
    (counts,) = (line.split(" | ")[1].strip() for line in lines if "encoders_audio " in line)
    assert int(counts) == len(jax.tree.leaves(runs["ast"].state.params["model"]["encoders_audio"]))


def test_positions_of_sound_are_interpolated_to_another_length(runs):
    encoder = runs["ast"].experiment.model.encoders["audio"]
    assert encoder.note((2, 64, 32)) == ""
    assert encoder.note((2, 44, 32)) == "positions are interpolated, 5 x 2 to 3 x 2"
    params = {"params": runs["ast"].state.params["model"]["encoders_audio"]}
    given = (jnp.zeros((2, 44, 32)), jnp.ones(2, bool))
    found = jax.eval_shape(lambda params: encoder.apply(params, *given, False).local, params)
    assert found.shape == (2, 6, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 128}, "max_length=128, and config.json has 64"),
        ({"num_mel_bins": 40}, "num_mel_bins=40, and config.json has 32"),
    ],
)
def test_sound_that_the_network_does_not_take(tmp_path, options, message):
    folders.write(tmp_path / "ast", "ast")
    (tmp_path / "ast" / "preprocessor_config.json").write_text(json.dumps(options))
    with pytest.raises(ConfigError, match=message):
        converted(tmp_path / "ast")


def test_what_is_said_of_a_tower(tmp_path, capsys):
    weights = folders.write(tmp_path / "ast", "ast")
    with pytest.raises(ConfigError, match=r"--modality='video' is not in AST; allowed: audio"):
        converted(tmp_path / "ast", modality="video")
    said = capsys.readouterr().out
    assert "left out: 4 arrays of classifier" in said
    assert "preprocessor_config.json is missing: sound as the family has it, 16000 Hz" in said
    options = {"sampling_rate": 8000, "do_normalize": False, "num_mel_bins": 32}
    (tmp_path / "ast" / "preprocessor_config.json").write_text(json.dumps(options))
    # A bare encoder, whose arrays have no prefix.
    prefix = "audio_spectrogram_transformer."
    bare = {name.removeprefix(prefix): a for name, a in weights.items() if prefix in name}
    del bare["layernorm.bias"]
    folders.safetensors.numpy.save_file(bare, tmp_path / "ast" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"is no AST: missing layernorm.bias"):
        converted(tmp_path / "ast")
