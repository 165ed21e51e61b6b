"""A published folder that became a run becomes the same folder again; other runs are refused."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.tree_util import tree_map

from configs import quickstart
from fgmm.config import ConfigError, as_dict
from fgmm.convert import published
from fgmm.convert.families import family_of
from fgmm.data.text import phrases, tokenizers
from fgmm.experiment import build as experiments
from fgmm.export import huggingface
from fgmm.export.__main__ import export
from fgmm.export.folder import Run
from fgmm.train import checkpoint
from tests.convert import published_folders
from tests.export.small import PICTURES, WRITERS
from tests.shrunken import shrunken


@pytest.fixture(scope="module")
def made(converted, tmp_path_factory):
    """By family: the arrays that there were, the run, and the folder that came out."""
    found = {}
    for family, (arrays, workdir) in converted.items():
        output = tmp_path_factory.mktemp(family) / "out"
        lines = export(workdir, output, "huggingface", "latest")
        assert lines[0].startswith(f"{output}: step 0 as huggingface, ")
        assert lines[1:] == []
        found[family] = (arrays, workdir, output)
    return found


@pytest.fixture(scope="module")
def runs(made):
    return {
        family: Run(workdir, *checkpoint.load(workdir), "last")
        for family, (_, workdir, _) in made.items()
    }


@pytest.mark.parametrize("family", WRITERS)
def test_tensors_have_their_names_shapes_and_bits(made, family):
    given, _, output = made[family]
    found = safetensors.numpy.load_file(output / "model.safetensors")
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype == array.dtype == np.float32
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("family", WRITERS)
def test_the_folder_becomes_the_same_run_again(made, runs, family):
    _, _, output = made[family]
    again = published.read(output)
    found = family_of(again).as_run(again)
    assert found.experiment.model == runs[family].experiment.model
    assert found.experiment.shape == runs[family].experiment.shape
    one, other = (as_dict(run.experiment.config) for run in (found, runs[family]))
    for config in (one, other):
        # A tokenizer.json says the same in other bytes.
        del config["data"]["tokenizer_fingerprint"]
    assert one == other
    tree_map(np.testing.assert_array_equal, found.state.params, runs[family].state.params)
    for caption in ("a red cat", "The dog's on a RED cat,\n there!", "a " * 40):
        one, other = (
            run.experiment.tokenizer.encode(
                caption, segmenter=phrases.function_words, tokens=12, phrases=4
            )
            for run in (found, runs[family])
        )
        np.testing.assert_array_equal(one, other)


def test_what_files_say(made):
    published_config = published_folders.CLIP
    _, _, output = made["clip"]
    files = {
        path.name: path.read_text() for path in output.iterdir() if path.suffix != ".safetensors"
    }
    config = json.loads(files["config.json"])
    for section in ("vision_config", "text_config"):
        assert config[section].items() >= published_config[section].items()
    assert config["projection_dim"] == published_config["projection_dim"]
    assert config["architectures"] == ["CLIPModel"]
    assert config["text_config"]["hidden_act"] == "quick_gelu"
    assert json.loads(files["vocab.json"]) == published_folders.clip_vocabulary()
    pairs = [" ".join(pair) for pair in published_folders.MERGES]
    assert files["merges.txt"].splitlines() == ["#version: 0.2", *pairs]
    pictures = json.loads(files["preprocessor_config.json"])
    assert pictures.items() >= PICTURES.items()
    assert pictures["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
    tokens = json.loads(files["tokenizer_config.json"])
    assert tokens["bos_token"] == "<|startoftext|>"
    assert "# out\n\nIt is in Hugging Face's layout" in files["README.md"]
    assert "- converted from: small" in files["README.md"]
    text = json.loads((made["siglip"][2] / "config.json").read_text())["text_config"]
    assert (text["pad_token_id"], text["eos_token_id"]) == (1, 1)


def changed(run, **arrays):
    """The run with arrays one larger."""
    flat = flatten_dict(run.state.params, sep="/")
    for name in arrays.values():
        flat[name] = flat[name] + 1
    state = run.state.replace(params=unflatten_dict(flat, sep="/"))
    return dataclasses.replace(run, state=state)


def test_what_has_no_place_is_said_or_refused(runs, tmp_path):
    trained = changed(runs["clip"], cells="model/heads_joint_video/local/kernel")
    huggingface.check(trained)
    assert huggingface.write(trained, tmp_path) == [
        "left out, for the layout has no place for it: model/heads_joint_video"
    ]
    moved = changed(runs["siglip"], head="model/heads_joint_video/coarse/kernel")
    with pytest.raises(
        ConfigError,
        match="SigLIP's layout has no place for model/heads_joint_video/coarse/kernel; --form",
    ):
        huggingface.check(moved)


def test_gates_that_have_no_place_are_said(runs):
    run = runs["clip"]
    flat = flatten_dict(run.state.params, sep="/")
    flat["model/gates_joint_video/logit/kernel"] = np.ones((32, 1), np.float32)
    state = run.state.replace(params=unflatten_dict(flat, sep="/"))
    gated = dataclasses.replace(run, state=state)
    left_out = huggingface._chosen(gated, huggingface._layout(run.experiment)).left_out
    assert left_out == ["model/gates_joint_video"]


def test_a_tokenizer_that_has_no_place_is_refused(runs):
    def with_tokenizer(tokenizer):
        experiment = dataclasses.replace(runs["siglip"].experiment, tokenizer=tokenizer)
        return dataclasses.replace(runs["siglip"], experiment=experiment)

    spelling = tokenizers.load(tokenizers.path_of("narrated_shapes"))
    with pytest.raises(ConfigError, match=r"no place for data\.tokenizer=.*, only for a tokenize"):
        huggingface.check(with_tokenizer(spelling))
    file = json.loads(runs["siglip"].experiment.tokenizer.model)
    unpadded = copy.copy(runs["siglip"].experiment.tokenizer)
    unpadded.__setstate__(json.dumps({**file, "padding": None}).encode())
    with pytest.raises(ConfigError, match=r"has no section padding, which SigLIP's layout needs"):
        huggingface.check(with_tokenizer(unpadded))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pool", "mean", "CLIP's layout has no place for model.spaces.joint.pool='mean', only for"),
        ("hidden", 8, "CLIP's layout has no place for model.spaces.joint.hidden"),
    ],
)
def test_another_space_is_refused(runs, key, value, message):
    config = as_dict(runs["clip"].experiment.config)
    config["model"]["spaces"]["joint"][key] = value
    with pytest.raises(ConfigError, match=message):
        huggingface.check(with_config(runs["clip"], config))


def with_config(run, config):
    experiment = experiments.build(config, run.workdir / "tokenizer.model")
    return dataclasses.replace(run, experiment=experiment)


def test_other_towers_and_pictures_are_refused(runs):
    config = as_dict(runs["clip"].experiment.config)
    config["data"]["resize"] = "crop"
    with pytest.raises(ConfigError, match=r"data\.resize='crop' has no place in the published"):
        huggingface.check(with_config(runs["clip"], config))
    config = as_dict(runs["clip"].experiment.config)
    config["objective"]["terms"] = {}
    bare = with_config(runs["clip"], config)
    with pytest.raises(ConfigError, match="CLIP's layout needs logit_scale, which no coarse term"):
        huggingface.check(bare)
    other = experiments.build(shrunken(quickstart.get_config(), steps=3))
    state = jax.eval_shape(other.init, 0)
    with pytest.raises(
        ConfigError,
        match=(
            "no layout for a run of video: resnet2plus1d, audio: resnet, text: phrase_transformer; "
            "it has one for video and text of clip or of siglip"
        ),
    ):
        huggingface.check(Run(runs["clip"].workdir, other, state, "last"))


def test_another_size_and_several_frames_are_said(runs, tmp_path):
    config = as_dict(runs["clip"].experiment.config)
    config["data"].update(frames=4, height=48, width=48)
    assert huggingface.write(with_config(runs["clip"], config), tmp_path) == [
        "the run embeds clips of 4 frames, as the mean of their features before the projection; "
        "the layout embeds one picture",
        "the run takes pictures of 48 x 48; the layout has positions of 32 x 32",
    ]
