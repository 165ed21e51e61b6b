import functools

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm import components, losses
from fgmm.config import ConfigError
from fgmm.eval import attention
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken


@functools.cache
def built(argument="fine=info_nce", **changes):
    config = shrunken(quickstart.get_config(argument))
    config.data.update(join_captions=False, captions=3, phrases=8, segmenter="function_words")
    for key, value in changes.items():
        section, _, option = key.partition("__")
        if section == "space":
            config.model.spaces.joint[option] = value
        elif section == "term":
            for name, entry in config.objective.terms.items():
                if name.startswith("fine"):
                    entry[option] = value
        else:
            config.data[option] = value
    return experiments.build(components.complete(config))


@functools.cache
def state_of(argument="fine=info_nce"):
    """The same for all pools, which have no parameters."""
    return jax.jit(built(argument).init)(3)


def batch_of(experiment, clips=4):
    source = experiment.source(
        {"name": "narrated_shapes", "split": "retrieval", "size": 32, "frames": 4}, "source"
    )
    assembler = experiment.assembler(source)
    examples = [assembler(record) for record in range(clips)]
    batch = {name: np.stack([x[name] for x in examples]) for name in examples[0]}
    return {name: x for name, x in batch.items() if name not in ("record", "problems")}


@pytest.mark.parametrize("pool", ["softmax", "max", "mean"])
def test_attention_is_that_of_the_term(pool):
    experiment = built(term__pool=pool)
    state, batch = state_of(), batch_of(experiment)
    (maps,) = attention.maps(experiment, ["fine_video_text"])(state, batch).values()
    space = experiment.embed(state, batch)["joint"]
    temperature = 0.1 if pool == "softmax" else None
    x, y, mask = space["video"].local, space["text"].local, space["text"].mask
    assert maps.weights.shape == (4, 3, 8, 2, 4, 4)
    np.testing.assert_array_equal(maps.mask, mask)
    for b in range(4):
        sides = x[b : b + 1], y[b], None, mask[b]
        kwargs = {"pool": pool, "temperature": temperature}
        weights = losses.attention_weights(*sides, **kwargs)[0]
        flat = np.asarray(maps.weights[b]).reshape(3, 8, -1)
        np.testing.assert_allclose(flat, np.swapaxes(weights, 1, 2), atol=1e-5)
        score = losses.pooled_similarity(*sides, **kwargs).values[0]
        np.testing.assert_allclose(maps.score[b], score, atol=1e-5)
    similarity = np.asarray(maps.similarity)
    expected = np.einsum("bnd,bkpd->bkpn", x, y).reshape(similarity.shape)
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    if pool != "mean":
        said = np.asarray(mask)
        peaks = [np.asarray(m)[said].reshape(said.sum(), -1) for m in (similarity, maps.weights)]
        at_peak = np.take_along_axis(peaks[1], peaks[0].argmax(1)[:, None], 1)[:, 0]
        np.testing.assert_allclose(at_peak, peaks[1].max(1), rtol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_cells_of_a_class_activation_map_add_up_to_the_coarse_score(pool):
    """With one phrase a caption, its coarse embedding is the caption's."""
    experiment = built("fine=none", space__pool=pool, data__segmenter="whole")
    state, batch = state_of("fine=none"), batch_of(experiment)
    for pair, modality in (("video_text", "video"), ("audio_text", "audio")):
        name = f"coarse_{pair}"
        maps = attention.maps(experiment, [name])(state, batch)[name]
        space = experiment.embed(state, batch)["joint"]
        cosines = np.einsum("bd,bkd->bk", space[modality].coarse, space["text"].coarse)
        cells = np.asarray(maps.similarity)[:, :, 0].reshape(4, 3, -1)
        np.testing.assert_allclose(cells.mean(axis=2), cosines, atol=1e-5)
        np.testing.assert_allclose(maps.score[:, :, 0], cosines, atol=1e-5)
        assert cells.std(axis=2).min() > 1e-3
        weights = np.asarray(maps.weights)[:, :, 0].reshape(4, 3, -1)
        np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)
        assert (weights[cells <= 0] == 0).all()


def test_sound_looks_at_the_picture_by_stretches():
    experiment = built()
    state, batch = state_of(), batch_of(experiment, clips=2)
    name = "fine_video_audio"
    maps = attention.maps(experiment, [name])(state, batch)[name]
    segments = experiment.embed(state, batch)["joint"]["audio_segments"]
    assert maps.score.shape == segments.mask.shape
    assert maps.weights.shape[3:] == (2, 4, 4)
    x = experiment.embed(state, batch)["joint"]["video"].local
    expected = np.einsum("nd,pd->pn", x[0], segments.local[0, 0])
    cells = np.asarray(maps.similarity)[0, 0].reshape(expected.shape)
    np.testing.assert_allclose(cells, expected, atol=1e-5)


def test_a_clip_without_video_has_no_phrases_and_no_weights():
    experiment = built()
    state, batch = state_of(), batch_of(experiment, clips=2)
    batch["video_mask"] = np.array([True, False])
    look = attention.maps(experiment, ["fine_video_text", "coarse_video_text"])
    for of_term in look(state, batch).values():
        assert np.asarray(of_term.mask)[0].any()
        assert not np.asarray(of_term.mask)[1].any()
        assert np.asarray(of_term.weights)[0].any()
        assert not np.asarray(of_term.weights)[1].any()


def test_terms_by_kind():
    experiment = built()
    assert attention.terms(experiment, "video_text") == {
        "attention": "fine_video_text",
        "cam": "coarse_video_text",
    }
    assert attention.terms(experiment, "video_text", "coarse_video_text") == {
        "cam": "coarse_video_text"
    }
    assert attention.terms(built("fine=none"), "audio_text") == {"cam": "coarse_audio_text"}
    with pytest.raises(ConfigError, match="no term on video_text; allowed: coarse_video_text, fin"):
        attention.terms(experiment, "video_text", "fine_audio_text")
    config = shrunken(quickstart.get_config("fine=info_nce"))
    del config.objective.terms["fine_video_text"]
    del config.objective.terms["coarse_video_text"]
    with pytest.raises(ConfigError, match="without a term on video_text; it has audio_text, video"):
        attention.terms(experiments.build(config), "video_text")
