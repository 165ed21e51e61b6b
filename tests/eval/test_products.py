"""Evaluations where embeddings have any length, in a space that is reached through another: they
rank by products as they are.
"""

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm.data import pipeline
from fgmm.eval import attention, retrieval, zero_shot
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {"name": "narrated_shapes", "split": "retrieval", "clips": 12, "size": 32, "frames": 4}
CLASSES = {**SOURCE, "split": "motion"}
TEMPLATES = ("the star is {}", "watch the ball, it keeps {}")


@pytest.fixture(scope="module")
def experiment():
    config = shrunken(quickstart.get_config("fine=none"))
    config.model.spaces = {
        "va": {"modalities": ("video", "audio"), "width": 8},
        "vat": {
            **{"modalities": ("video", "audio", "text"), "width": 6, "through": "va"},
            **{"bias": True, "unit_length": False},
        },
    }
    for term in config.objective.terms.values():
        term.space = "vat"
    return experiments.build(config)


@pytest.fixture(scope="module")
def state(experiment):
    return jax.jit(experiment.init)(3)


def given_to(module, name, monkeypatch):
    """The first arguments of every call of a function."""
    calls, function = [], getattr(module, name)

    def seen(first, *others):
        calls.append(first)
        return function(first, *others)

    monkeypatch.setattr(module, name, seen)
    return calls


def embedded(experiment, state, assembler):
    ((batch, count),) = pipeline.evaluation_batches(assembler, 12)
    assert count == 12
    batch = {name: x for name, x in batch.items() if name not in pipeline.HOST_ONLY}
    return jax.device_get(experiment.embed(state, batch))["vat"], batch


def test_retrieval(experiment, state):
    bound = retrieval.Evaluation(source=SOURCE, batch_size=12).bind(experiment)
    result = bound(state)
    assert bound.space == "vat"
    assert 1 <= result["coarse/text_to_video/mean_rank"] <= 12
    found, _ = embedded(experiment, state, experiment.assembler(bound.source))
    lengths = np.linalg.norm(found["video"].coarse, axis=1)
    assert lengths.std() > 1e-3 * lengths.mean()
    expected = found["video"].coarse @ found["text"].coarse[:, 0].T
    gallery, _ = bound._gallery(state)
    scores = bound._tile(state.params["objective"], gallery, slice(0, 12), slice(0, 12))
    np.testing.assert_allclose(scores["coarse"], expected, rtol=1e-5, atol=1e-6)


def test_zero_shot(experiment, state, monkeypatch):
    scores = given_to(zero_shot.metrics, "classification_summary", monkeypatch)
    options = zero_shot.Evaluation(
        source=CLASSES, label="motion", templates=TEMPLATES, batch_size=12
    )
    bound = options.bind(experiment)
    bound(state)
    found, _ = embedded(experiment, state, bound.recordings.assembler)
    prompts = np.asarray(bound._prompt_embeddings(state).coarse).reshape(-1, len(TEMPLATES), 6)
    # The score of a class is the mean of those of its prompts.
    expected = np.einsum("bd,ctd->bct", found["video"].coarse, prompts).mean(axis=2)
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5, atol=1e-6)


def test_class_activation_maps(experiment, state):
    name = "coarse_audio_text"
    bound = retrieval.Evaluation(source=SOURCE, pair="audio_text", batch_size=12).bind(experiment)
    _, batch = embedded(experiment, state, experiment.assembler(bound.source))
    maps = attention.maps(experiment, [name])(state, batch)[name]
    encoded = jax.device_get(experiment.encode(state, batch))
    weights = jax.device_get(state.params["model"])
    onwards, of_text = (weights[f"heads_{head}"]["coarse"] for head in ("va_to_vat", "vat_text"))
    fine = np.maximum(encoded["audio"].local @ weights["heads_va_audio"]["coarse"]["kernel"], 0)
    x = fine @ onwards["kernel"] + onwards["bias"]
    y = encoded["text"].local @ of_text["kernel"] + of_text["bias"]
    expected = np.einsum("bnd,bpd->bpn", x, y).reshape(maps.similarity.shape)
    said = np.asarray(maps.mask)
    np.testing.assert_allclose(maps.similarity[said], expected[said], rtol=1e-4, atol=1e-6)
