"""Published towers, converted, give what ``transformers`` gives on the same random weights."""

import pathlib

import jax
import numpy as np
import pytest

from fgmm import inputs
from fgmm.convert import clip, published, siglip
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
        "clip": clip.converted(published.read(folder / "clip")),
        "siglip": siglip.converted(published.read(folder / "siglip")),
    }


def outputs(found, pixels, tokens):
    """What a run makes of pictures of any size and of tokens, by the names of the reference."""
    experiment, state = found.experiment, found.state
    frames = [inputs.image(picture, "picture", experiment.shape) for picture in pixels]
    rows = max(len(frames), len(tokens))
    filled = np.stack([*frames, *frames[:1] * (rows - len(frames))])
    batch = {
        "video": filled,
        "video_mask": np.ones(rows, bool),
        "tokens": np.asarray(tokens, np.int32)[:, None],
        "phrase_ids": np.ones((rows, 1, tokens.shape[1]), np.int32),
    }

    def run(params, batch):
        given = experiment.transforms(batch)
        variables = {"params": params["model"]}
        encoded = experiment.model.apply(variables, given, method="encode")
        joint = experiment.model.apply(variables, given)["joint"]
        term = params["objective"]["published"]
        logits = joint["video"].coarse @ joint["text"].coarse[:, 0].T
        logits = logits * jax.numpy.exp(-term["log_temperature"]) + term.get("bias", 0.0)
        return {
            "pictures": given["video"][:, 0],
            "cells": encoded["video"].local,
            "phrase": encoded["text"].local[:, 0],
            "video": joint["video"].coarse,
            "text": joint["text"].coarse[:, 0],
            "logits": logits,
        }

    result = jax.jit(run)(state.params, batch)
    result = {name: np.asarray(array) for name, array in result.items()}
    text = ("text", "phrase")
    return {name: a if name in text else a[: len(frames)] for name, a in result.items()}


def furthest(found, reference, family, number=0):
    """The largest difference of each output, over the largest value."""
    pixels = folders.random_pixels(SIZES[number])
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
