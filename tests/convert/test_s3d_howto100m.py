"""The published network, converted, gives what PyTorch gives on the same random weights."""

import json
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import fgmm
from fgmm import config as configs
from fgmm import provenance
from fgmm.config import ConfigError
from fgmm.convert import s3d_howto100m
from fgmm.experiment import build as experiments
from fgmm.train import checkpoint, init_from
from tests import programs
from tests.convert.s3d_weights import random_frames, random_weights

LAYERS = ("conv1", "gating", "mixed_3c", "mixed_4f", "mixed_5c")


@pytest.fixture(scope="module")
def reference():
    """What ``s3d_reference.py`` wrote."""
    with np.load(pathlib.Path(__file__).parent / "s3d_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def weights(reference):
    return random_weights(json.loads(str(reference["shapes"])))


@pytest.fixture(scope="module")
def workdir(reference, weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "run"
    words = reference["words"].tolist()
    found = s3d_howto100m.converted(weights, words, frames=4, size=32)
    s3d_howto100m.write(found, path, {"model": "s3d_howto100m"})
    return path


@pytest.fixture(scope="module")
def model(workdir):
    return fgmm.load(workdir, batch_size=4)


def relative(ours, theirs) -> float:
    """The largest difference over the largest value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def video(model, reference):
    """Embeddings of the reference's clips, and the maps of ``LAYERS``."""
    frames = random_frames(int(reference["seed"]), tuple(reference["clips"]))
    batch = {"video": jnp.asarray(frames), "video_mask": jnp.ones(len(frames), bool)}
    experiment, state = model.experiment, model.state

    @jax.jit
    def run(batch):
        return experiment.model.apply(
            {"params": state.params["model"], **state.statistics},
            experiment.transforms(batch),
            capture_intermediates=lambda m, method: m.name in LAYERS and method == "__call__",
            mutable=["intermediates"],
        )

    embeddings, found = run(batch)
    return embeddings["joint"]["video"], found["intermediates"]["encoders_video"]


def test_every_layer_of_the_video_tower(model, video, reference):
    embeddings, maps = video
    for layer in LAYERS:
        steps = tuple(slice(None, None, int(step)) for step in reference[f"{layer}_steps"])
        ours = np.asarray(maps[layer]["__call__"][0]).transpose(0, 4, 1, 2, 3)[steps]
        assert relative(ours, reference[layer]) < 1e-4, layer
    assert relative(embeddings.coarse, reference["video"]) < 1e-4
    # The last layer is linear, so the mean of what it makes of cells is what it makes of the mean.
    assert relative(embeddings.local.mean(axis=1), reference["video"]) < 1e-4
    head = model.state.params["model"]["heads_joint_video"]
    jax.tree.map(np.testing.assert_array_equal, head["local"], head["coarse"])


def known_captions(reference):
    """Those with a word of the dictionary, and which these are."""
    captions = reference["captions"].tolist()
    known = [i for i, caption in enumerate(captions) if caption not in ("", "nothing known")]
    assert len(known) == 4
    return [captions[i] for i in known], known


def test_similarities_are_the_published_products(model, video, reference):
    captions, known = known_captions(reference)
    expected = reference["video"] @ reference["text"][known].T
    # Of any size and sign, as cosines would not be.
    assert np.abs(expected).max() > 2
    ours = model.similarity(np.asarray(video[0].coarse), model.embed_text(captions))
    assert relative(ours, expected) < 1e-4
    # The loss compares them alike: no temperature, nothing scaled.
    assert model.experiment.objective.init() == {"coarse": {}}
    assert model.experiment.objective.terms["coarse"].term.current("temperature", {}) == 1


def test_the_text_tower(model, reference):
    captions, known = known_captions(reference)
    assert relative(model.embed_text(captions), reference["text"][known]) < 1e-4
    # Published, a caption without a known word has an embedding like any other; here it is none.
    with pytest.raises(ValueError, match=r"'nothing known' holds no word"):
        model.embed_text(["nothing known"])


def test_what_was_written_is_a_run(workdir, model, reference):
    config = model.experiment.config
    assert config.transforms.pixel_mean == (0, 0, 0)
    assert config.transforms.pixel_spread == (255, 255, 255)
    assert int(model.state.step) == 0
    assert (workdir / checkpoint.TOKENIZER).exists()
    (started,) = provenance.of_run(workdir, 0, 1)["started"]
    assert started["converted"] == {"model": "s3d_howto100m"}
    shape = model.experiment.shape
    assert (shape.frames, shape.height, shape.width, shape.tokens) == (4, 32, 32, 16)
    assert config.data.tokenizer == checkpoint.TOKENIZER
    full = s3d_howto100m.model_config()
    assert (full.data.frames, full.data.height, full.data.width) == (32, 224, 224)


def test_another_run_starts_from_it(workdir, model):
    config = ml_collections.ConfigDict(configs.plain(model.experiment.config))
    config.data.tokenizer = str(workdir / checkpoint.TOKENIZER)
    config.init_from = {
        "path": str(workdir),
        "step": "latest",
        "weights": "",
        "rules": (
            ("model/heads_joint_.*", "initialise"),
            (r"model/encoders_video/mixed_3.*", "load"),
            ("objective/.*", "initialise"),
        ),
    }
    config.model.spaces.joint.update(width=16, bias=False, unit_length=True)
    config.objective.terms.coarse.update(temperature=0.07, learn_temperature=True)
    experiment = experiments.build(config)
    given = init_from.read(experiment)
    rows = [line.split("|") for line in given.report.splitlines()[2:]]
    counts = {row[0].strip(): [int(cell) for cell in row[1:]] for row in rows}
    # Five arrays a normalised convolution, two a gate.
    assert counts["model/encoders_video"] == [5 * (4 + 9 * 8) + 2 * (1 + 9 * 4), 0, 0]
    assert counts["model/encoders_text"] == [3, 0, 0]


def test_weights_of_another_model_are_named(weights, reference):
    words = reference["words"].tolist()
    changed = {k.replace("mixed_5c.", "mixed_6a."): v for k, v in weights.items()}
    with pytest.raises(
        ConfigError,
        match=r"missing mixed_5c\.conv_b0\.bn1\.bias.* and 43 more; unexpected mixed_6a.*and 43",
    ):
        s3d_howto100m.converted(changed, words)
    with pytest.raises(ConfigError, match=r"missing .* and \d+ more; unexpected layer1$"):
        s3d_howto100m.converted({"layer1": np.zeros(3)}, words)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("fc.bias", np.zeros(400), r"fc\.bias has shape \(400,\)"),
        ("fc.weight", np.zeros(3), r"fc\.weight has shape \(3,\), or"),
        ("fc.bias", np.full(512, np.nan), r"fc\.bias holds values that are not finite"),
        (
            "conv1.conv1.weight",
            np.zeros((64, 3, 3, 7, 7)),
            r"conv1\.conv1\.weight has shape \(64, 3, 3, 7, 7\), or \(7, 7, 9, 64\)",
        ),
        (
            "text_module.word_embd.weight",
            np.zeros((66250, 300)),
            r"\(17, 300\) is needed \(a row for each of the words and one for padding\)",
        ),
    ],
)
def test_arrays_of_another_shape_are_named(weights, reference, name, array, message):
    with pytest.raises(ConfigError, match=message):
        s3d_howto100m.converted({**weights, name: array}, reference["words"].tolist())


def test_a_run_is_not_overwritten(workdir, model):
    found = s3d_howto100m.Conversion(model.experiment, model.state)
    with pytest.raises(ConfigError, match="holds checkpoints already"):
        s3d_howto100m.write(found, workdir, {})


def test_the_program_names_what_is_wrong(tmp_path, repository):
    command = ["fgmm.convert.s3d_howto100m", f"--output={tmp_path}/run"]
    for flags, message in (
        (["--weights=gone.pth", "--words=gone.npy"], "gone.pth cannot be read: No such file"),
        (["--weights=gone.pth"], "--words is missing; The published list of words"),
    ):
        done = programs.run(*command, *flags, cwd=repository)
        assert done.returncode == 2
        assert done.stderr == f"error: {message}" + done.stderr.removeprefix(f"error: {message}")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
