"""What is wrong with a config as a whole is one line, before anything is computed."""

import importlib
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.experiment import build as experiments
from tests.models.small import SMALL, abstract, small
from tests.shrunken import shrunken


def config_of(video="resnet2plus1d", audio="resnet", **data):
    config = shrunken(quickstart.get_config())
    config.model.video, config.model.audio = small("video", video), small("audio", audio)
    config.data.update(data)
    return components.complete(config)


# Clips that do not fit, what is wrong with them, and what would do.
ODD = "must all be even for stem='space_to_depth' (or frames 1, for images); stem='7x7' takes any"
PATCHES = "must be multiples of tubelet=2, patch=16 and patch=16 (or frames 1, for images)"
REFUSED = [
    ("s3d", (3, 16, 16), ODD, (4, 16, 16)),
    ("s3d", (2, 15, 33), ODD, (2, 16, 34)),
    ("vivit", (3, 16, 16), PATCHES, (4, 16, 16)),
    ("vivit", (4, 8, 40), PATCHES, (4, 16, 48)),
]


@pytest.mark.parametrize(("name", "sizes", "why", "fitting"), REFUSED)
def test_clips_that_an_encoder_cannot_take(name, sizes, why, fitting):
    frames, height, width = sizes
    config = config_of(video=name, frames=frames, height=height, width=width)
    with pytest.raises(ConfigError) as caught:
        experiments.build(config)
    given = " x ".join(map(str, sizes))
    assert str(caught.value) == (
        f"model.video.name={name!r} cannot take data.frames={frames}, data.height={height} and "
        f"data.width={width}: frames x height x width = {given} {why}; "
        f"{' x '.join(map(str, fitting))} would do"
    )


def test_sound_that_an_encoder_cannot_take():
    config = config_of(audio="ast", seconds=0.2)
    with pytest.raises(ConfigError) as caught:
        experiments.build(config)
    assert str(caught.value) == (
        "model.audio.name='ast' cannot take data.seconds=0.2, transforms.mel_hop=0.016 and "
        "transforms.mel_bands=40: the spectrogram's steps x bands = 11 x 40 must be at least "
        "patch=16 x 16; give longer audio, a shorter mel_hop or more mel_bands"
    )


@pytest.mark.parametrize("name", components.names("models.video"))
def test_clips_shorter_and_smaller_than_strides_fit(name):
    """Sizes are rounded up at every stride, so that there is one cell; patches are whole."""
    size = 16 if name in ("vivit", "clip", "siglip", "dinov2", "videomae") else 2
    for frames in (1, 2):
        features = 3 if name == "features" else 0
        config = config_of(video=name, frames=frames, height=size, width=size, features=features)
        encoder = experiments.build(config).model.encoders["video"]
        clips = jnp.zeros((3, frames, size, size, 3))
        grid, (batch, cells, _), _ = abstract(encoder, clips, jnp.ones(3, bool))
        assert (batch, cells) == (3, math.prod(grid))
        assert cells >= 1


@pytest.mark.parametrize("name", [name for name in SMALL["audio"] if name != "ast"])
def test_sound_of_one_window_fits(name):
    experiments.build(config_of(audio=name, seconds=0.032))


class Picky(nn.Module):
    """Of another lab: what is wrong is said by JAX alone, in several lines."""

    @nn.compact
    def __call__(self, frames, mask, train):
        del mask, train
        if frames.shape[1] < 32:
            raise TypeError("first line\nsecond line")
        return frames


def test_another_labs_encoder_is_one_line_too(monkeypatch):
    module = importlib.import_module("fgmm.models.video.resnet2plus1d")
    monkeypatch.setattr(module, "Encoder", Picky)
    config = shrunken(quickstart.get_config())
    config.model.video = {"name": "resnet2plus1d"}
    with pytest.raises(ConfigError, match=r"data\.width=16: first line; 32 x 16 x 16 would do$"):
        experiments.build(config)
    config.data.frames = 33
    assert experiments.build(config).shape.frames == 33


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("flip", True),
        ("crop_area", 0.5),
        ("hue", 0.1),
        ("grey_chance", 0.2),
        ("pixel_mean", (0.0, 1.0, 2.0)),
    ],
)
def test_what_changes_pixels_is_refused_for_stored_features(option, value):
    config = config_of(video="features", features=8)
    experiments.build(config)
    config.transforms[option] = value
    message = rf"transforms.{option}={re.escape(str(value))} changes pixels.*=8 has"
    with pytest.raises(ConfigError, match=message):
        experiments.build(config)
    config = config_of(video="features", features=8)
    config.data.resize = "stretch"
    with pytest.raises(ConfigError, match=r"data.resize='stretch' changes pixels.*to 'crop'"):
        experiments.build(config)
    config.data.resize_ratio = 1.2
    with pytest.raises(ConfigError, match=r"data.resize_ratio=1.2 cuts off a border, and data.res"):
        experiments.build(config)


def test_encoders_take_pixels_or_features():
    with pytest.raises(ConfigError, match=r"'features' takes stored features, and data.features=0"):
        experiments.build(config_of(video="features"))
    with pytest.raises(ConfigError, match=r"'s3d' takes pixels, and data.features=8 gives"):
        experiments.build(config_of(video="s3d", features=8))


def test_stored_features_reach_the_encoder_as_they_are():
    config = config_of(video="features", frames=1, height=2, width=3, features=8)
    built = experiments.build(config)
    blank = built.shape.zeros(2)
    assert (blank["video"].shape, blank["video"].dtype) == ((2, 1, 2, 3, 8), np.float16)
    values = np.random.default_rng(0).standard_normal((2, 1, 2, 3, 8)).astype(np.float16)
    mask = np.ones(2, bool)
    batch = {"video": jnp.asarray(values), "video_mask": jnp.asarray(mask)}
    given = built.transforms(batch)["video"]
    np.testing.assert_array_equal(given, values.astype(np.float32))
    tokens = built.model.encoders["video"].apply({}, given, batch["video_mask"], False)
    assert tokens.grid == (1, 2, 3)
    np.testing.assert_array_equal(tokens.local, values.reshape(2, 6, 8).astype(np.float32))


def test_building_compiles_nothing():
    config = config_of(video="tsm_resnet50", frames=3)
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    experiments.build(config)
    compiled = "/jax/core/compile/backend_compile_duration"
    assert compiled not in events
    jax.jit(lambda x: x + 41.5)(1.5)
    assert compiled in events


def test_the_model_is_traced_once_and_compiled_once_for_its_initial_state(monkeypatch):
    experiment = experiments.build(config_of())
    traced, compiled = [], []
    init = type(experiment).init
    monkeypatch.setattr(
        type(experiment), "init", lambda self, seed: traced.append(seed) or init(self, seed)
    )
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), experiment.abstract_state)
    state = experiment.initial_state()
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    count = len(compiled)
    jax.tree.map(np.testing.assert_array_equal, experiment.initial_state(), state)
    assert (len(traced), len(compiled)) == (1, count)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("model", {"smell": {}}, r"model\.smell is unknown; allowed: video, audio, text, spaces"),
        ("model", {"spaces": {}}, r"model\.spaces is empty; name at least one space"),
        ("data", {"segmenter": "x"}, r"data\.segmenter='x' is unknown; allowed"),
        (
            "optimizer",
            {"schedule": {"name": "step"}},
            r"schedule\.name='step' is unknown; allowed: cosine, linear, constant, rsqrt",
        ),
        ("checkpoint", {"best_mode": "up"}, r"best_mode='up' is unknown; allowed: min, max"),
    ],
)
def test_wrong_sections_are_named(section, changes, message):
    config = shrunken(quickstart.get_config()).unlock()
    config[section].update(changes)
    if changes.get("spaces") == {}:
        config.model.spaces = {}
    with pytest.raises(ConfigError, match=message):
        experiments.build(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair": "text_text"}, r"coarse_video_text\.pair='text_text' is unknown; allowed: video"),
        ({"space": "x"}, r"coarse_video_text\.space='x' is unknown; allowed: joint"),
        ({"weight": "x"}, r"coarse_video_text\.weight='x' is not of type float"),
        ({"level": "x"}, r"coarse_video_text\.level='x' is unknown; allowed: fine, coarse"),
    ],
)
def test_wrong_terms_are_named(changes, message):
    config = shrunken(quickstart.get_config()).unlock()
    with config.ignore_type():
        config.objective.terms.coarse_video_text.update(changes)
    with pytest.raises(ConfigError, match=message):
        experiments.build(config)


def test_a_best_checkpoint_needs_its_evaluation():
    config = quickstart.get_config()
    config.evals = {}
    said = (
        r"'retrieval', and evals is empty; .* set --config.checkpoint.best_metric= to keep no best"
    )
    with pytest.raises(ConfigError, match=said):
        experiments.build(config)


LABELS = {"name": "softmax_cross_entropy", "classifier": "kind"}
HEAD = {"modality": "video", "classes": ("a", "b")}


@pytest.mark.parametrize(
    ("terms", "heads", "label", "message"),
    [
        (
            {"kind": LABELS},
            {"kind": HEAD},
            "",
            r"terms\.kind needs labels: set data\.label",
        ),
        ({}, {"kind": HEAD}, "kind", r"data\.label='kind' is used by no term; add a supervised"),
        ({"kind": LABELS}, {}, "kind", r"kind\.classifier='kind' is unknown; .*: there is none"),
        ({"kind": {**LABELS, "pair": "x"}}, {"kind": HEAD}, "kind", r"kind\.pair='x' is unknown"),
        (
            {"kind": LABELS, "other": {"name": "sigmoid_cross_entropy", "classifier": "kind"}},
            {"kind": HEAD},
            "kind",
            r"kind, objective\.terms\.other: these terms share data\.label='kind'",
        ),
    ],
)
def test_labels_terms_and_classifiers_go_together(terms, heads, label, message):
    config = shrunken(quickstart.get_config()).unlock()
    config.data.label, config.model.classifiers = label, heads
    config.objective.terms.update(terms)
    with pytest.raises(ConfigError, match=message):
        experiments.build(config)


def test_classifiers_need_no_spaces():
    config = shrunken(quickstart.get_config()).unlock()
    config.data.label = "kind"
    config.model = {"video": small("video", "resnet2plus1d"), "classifiers": {"kind": HEAD}}
    config.objective.terms, config.objective.score = {"kind": LABELS}, "sum"
    config.evals, config.checkpoint.best_metric = {}, ""
    for given in (config, components.complete(config)):
        assert experiments.build(given).config.model.spaces.to_dict() == {}
    del config.model.classifiers
    with pytest.raises(ConfigError, match=r"model\.spaces is empty; name at least one space"):
        experiments.build(config)


def test_a_supervised_term_stands_beside_others():
    config = shrunken(quickstart.get_config()).unlock()
    config.data.label, config.model.classifiers = "kind", {"kind": HEAD}
    config.objective.terms.kind = LABELS
    experiment = experiments.build(components.complete(config))
    assert experiment.config.model.classifiers.kind.pool == "mean"
    assert (experiment.shape.label, experiment.shape.classes) == ("kind", 2)
    assert experiment.blank_batch()["labels"].shape == (2,)
    heads = experiment.abstract_state.params["model"]["classifiers_kind"]["logits"]
    assert heads["kernel"].shape[1] == 2
    with pytest.raises(ConfigError, match=r"data\.label='kind' is unknown .*: motion, sound"):
        experiment.training_source()
    # Evaluations read labels from the clips.
    source = experiment.source(experiment.config.data.source, "source")
    assert "labels" not in experiment.assembler(source)(0)


def test_a_term_on_a_modality_that_its_space_lacks():
    config = shrunken(quickstart.get_config())
    config.model.spaces.joint.modalities = ("video", "text")
    with pytest.raises(ConfigError, match=r"_audio_text: audio has no part in space 'joint'$"):
        experiments.build(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 9}, "fine_video_text: candidates must be from 1 to the 8 captions; got 9"),
        ({"exchange": "ring"}, "fine_video_text: negatives 'hardest' needs exchange 'gather'; got"),
        ({"coarse": "none"}, "objective: term 'fine_video_text' chooses negatives by coarse embed"),
        ({"name": "mil_nce"}, r"fine_video_text\.candidates=4 is unknown; allowed: "),
    ],
)
def test_negatives_that_a_config_cannot_have_are_refused(changes, message):
    config = shrunken(quickstart.get_config("fine=gated"))
    config.batch_size, config.exchange = 8, changes.get("exchange", "gather")
    fine = config.objective.terms.fine_video_text
    with fine.unlocked():
        fine.update(negatives="hardest", candidates=changes.get("candidates", 4))
        fine.name = changes.get("name", fine.name)
    if changes.get("coarse") == "none":
        with config.unlocked():
            del config.objective.terms.coarse_video_text
    with pytest.raises(ConfigError, match=message):
        experiments.build(config)


def test_the_resolved_config_has_the_options_of_every_space():
    config = shrunken(quickstart.get_config())
    config.model.spaces.other = {"modalities": ("video",), "width": 3}
    spaces = experiments.build(config).config.model.spaces
    assert (spaces.other.hidden, spaces.other.unit_length, spaces.other.through) == (0, True, "")


def test_a_kernel_that_cannot_run_here_is_refused():
    config = shrunken(quickstart.get_config())
    config.objective.terms.fine_video_text.implementation = "kernel"
    config.model.spaces.joint.dtype = "bfloat16"
    with pytest.raises(ConfigError) as caught:
        experiments.build(config)
    assert str(caught.value) == (
        "objective.terms.fine_video_text, model.spaces.joint.dtype=bfloat16: implementation "
        "'kernel' supports pools softmax and logsumexp in direction y_to_x, bfloat16 on both "
        "sides, D at most 256, no empty axis, no block, and a CUDA device of compute capability 9; "
        "the device is cpu, or absl-py is not installed"
    )


def test_a_space_of_own_features_needs_encoders_that_have_them():
    config = config_of()
    config.model.spaces.joint.pool = "own"
    with pytest.raises(ConfigError, match=r"pool='own' needs .*model.video.name='resnet2plus1d' g"):
        experiments.build(config)


def test_captions_longer_than_the_positions_of_a_text_tower():
    config = config_of()
    config.model.text = small("text", "clip", length=20)
    config.data.tokens = 21
    config = components.complete(config)
    with pytest.raises(ConfigError, match=r"'clip' cannot take data.tokens=21: 21 tokens of a cap"):
        experiments.build(config)
    config.data.tokens = 20
    built = experiments.build(config)
    with pytest.raises(ConfigError, match=r"cannot take data.tokens=30"):
        built.with_room(tokens=30)
