"""Published towers, converted, give what ``transformers`` gives on the same random weights."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from fgmm import inputs
from fgmm.convert import clip, published, siglip
from fgmm.data.schema import Resizing
from fgmm.data.text import phrases
from tests.convert import published_folders as folders

SIZES = ((2, 45, 61, 3), (1, 61, 45, 3))
LARGER = (1, 48, 48, 3)
CAPTIONS = ["a red cat", "The dog's on a RED cat,\n there!", "do " * 30]
CLOSE = 1e-4


@pytest.fixture(scope="module")
def reference():
    """What ``towers_reference.py`` wrote."""
    with np.load(pathlib.Path(__file__).parent / "towers_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The small models as runs, by family."""
    folder = tmp_path_factory.mktemp("published")
    folders.write_clip(folder / "clip")
    folders.write_siglip(folder / "siglip")
    return {
        "clip": clip.as_run(published.read(folder / "clip")),
        "siglip": siglip.as_run(published.read(folder / "siglip")),
    }


_COMPILED: dict = {}


def computing(experiment):
    """Computes what ``outputs`` returns; compiled once for each experiment."""

    def run(params, batch):
        given = experiment.transforms(batch)
        variables = {"params": params["model"]}
        encoded = experiment.model.apply(variables, given, method="encode")
        joint = experiment.model.apply(variables, given)["joint"]
        term = params["objective"]["published"]
        logits = joint["video"].coarse @ joint["text"].coarse[:, 0].T
        return {
            "pictures": given["video"][:, 0],
            "cells": encoded["video"].local,
            "phrase": encoded["text"].local[:, 0],
            "video": joint["video"].coarse,
            "text": joint["text"].coarse[:, 0],
            "logits": logits * jnp.exp(-term["log_temperature"]) + term.get("bias", 0.0),
        }

    # The experiment stays with its function, so that no other one gets its id.
    return _COMPILED.setdefault(id(experiment), (experiment, jax.jit(run)))[1]


def outputs(found, pixels, tokens):
    """What a run makes of pictures of any size and of tokens, by the names of the reference."""
    frames = [inputs.image(picture, "picture", found.experiment.shape) for picture in pixels]
    rows = max(len(frames), len(tokens))
    filled = np.stack([*frames, *frames[:1] * (rows - len(frames))])
    batch = {
        "video": filled,
        "video_mask": np.ones(rows, bool),
        "tokens": np.asarray(tokens, np.int32)[:, None],
        "phrase_ids": np.ones((rows, 1, tokens.shape[1]), np.int32),
    }
    run = computing(found.experiment)
    result = {name: np.asarray(a) for name, a in run(found.state.params, batch).items()}
    text = ("text", "phrase")
    return {name: a if name in text else a[: len(frames)] for name, a in result.items()}


def furthest(found, reference, family, number=0, pixels=None):
    """The largest difference of each output, over the largest value."""
    pixels = folders.random_pixels(SIZES[number]) if pixels is None else pixels
    ours = outputs(found, pixels, reference[f"{family}_tokens"])
    theirs = {name: reference[f"{family}_{number}_{name}"] for name in ours if name != "phrase"}
    # A phrase of all tokens is the mean of all states.
    theirs["phrase"] = reference[f"{family}_{number}_states"].mean(axis=1)
    differences = {}
    for name, array in theirs.items():
        assert ours[name].shape == array.shape, name
        differences[name] = float(np.abs(ours[name] - array).max() / np.abs(array).max())
    return differences


@pytest.mark.parametrize("number", range(len(SIZES)))
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_features_and_similarities_from_pixels_of_any_size(runs, reference, family, number):
    differences = furthest(runs[family], reference, family, number)
    assert max(differences.values()) < CLOSE, differences
    assert 0.5 < reference[f"{family}_{number}_cells"].std() < 2


def changed(found, **options):
    """The same run with options of both encoders changed."""
    model = found.experiment.model
    encoders = {name: encoder.clone(**options) for name, encoder in model.encoders.items()}
    experiment = dataclasses.replace(found.experiment, model=model.clone(encoders=encoders))
    return found._replace(experiment=experiment)


def with_array(found, path, change):
    """The same run with one array changed."""
    flat = flatten_dict(found.state.params, sep="/")
    flat[path] = change(flat[path])
    return found._replace(state=found.state.replace(params=unflatten_dict(flat, sep="/")))


MUTATIONS = {
    "GELU": ("clip", lambda run: changed(run, activation="gelu"), ("cells", "text")),
    "epsilon": ("clip", lambda run: changed(run, epsilon=1e-6), ("cells", "text")),
    "epsilon of SigLIP": ("siglip", lambda run: changed(run, epsilon=1e-5), ("cells", "text")),
    "bias": (
        "siglip",
        lambda run: with_array(
            run, "model/encoders_video/block_1/DenseGeneral_1/bias", np.zeros_like
        ),
        ("cells", "video"),
    ),
    "positions": (
        "clip",
        lambda run: with_array(
            run, "model/encoders_video/positions", lambda table: np.roll(table, 1, axis=0)
        ),
        ("cells", "video"),
    ),
    "filter": (
        "clip",
        lambda run: run._replace(
            experiment=dataclasses.replace(
                run.experiment,
                shape=dataclasses.replace(run.experiment.shape, resizing=Resizing("cover")),
            )
        ),
        ("pictures", "video"),
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_another_network_differs(runs, reference, mutation):
    family, change, outputs = MUTATIONS[mutation]
    differences = furthest(change(runs[family]), reference, family)
    assert min(differences[name] for name in outputs) > 2 * CLOSE, differences


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_positions_are_interpolated_to_other_sizes(runs, reference, family):
    found = runs[family]
    frames = folders.random_pixels(LARGER)[:, None]
    mean, spread = (
        np.float32(found.experiment.config.transforms[f"pixel_{name}"])
        for name in ("mean", "spread")
    )
    encoder = found.experiment.model.encoders["video"]
    params = found.state.params["model"]
    tokens = jax.jit(lambda params, x: encoder.apply(params, x, jnp.ones(1, bool), False))(
        {"params": params["encoders_video"]}, (frames - mean) / spread
    )
    assert tokens.grid == (1, 6, 6)
    assert encoder.note((1, 1, 48, 48, 3)).endswith("interpolated, 4 x 4 to 6 x 6")
    assert encoder.note((1, 1, 32, 32, 3)) == ""
    head = params["heads_joint_video"]["coarse"]
    ours = np.asarray(tokens.coarse) @ head["kernel"] + head.get("bias", 0)
    theirs = reference[f"{family}_larger"]
    assert np.abs(ours - theirs).max() < CLOSE * np.abs(theirs).max()


def test_captions_are_spelled_as_published(runs, reference):
    tokenizer = runs["clip"].experiment.tokenizer
    for caption, expected in zip(CAPTIONS, reference["clip_tokens"], strict=True):
        options = {"segmenter": phrases.function_words, "phrases": 4}
        tokens, phrase_ids = tokenizer.encode(caption, tokens=len(expected), **options)
        assert tokens.tolist() == expected.tolist()
        assert phrase_ids[0] == phrase_ids[expected == tokens.max()].max() == 0
        assert phrase_ids.max() > 0


def test_a_clip_sees_its_frames_one_by_one(runs):
    found = runs["siglip"]
    frames = folders.random_pixels((3, 32, 32, 3))
    encode = found.experiment.encode
    one = encode(found.state, {"video": frames[None], "video_mask": np.ones(1, bool)})["video"]
    each = encode(found.state, {"video": frames[:, None], "video_mask": np.ones(3, bool)})["video"]
    assert one.grid == (3, 4, 4)
    np.testing.assert_allclose(one.local[0], each.local.reshape(48, -1), atol=1e-5)
    np.testing.assert_allclose(one.coarse[0], each.coarse.mean(axis=0), atol=1e-5)
