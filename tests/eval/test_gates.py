import functools

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm.config import ConfigError
from fgmm.data import grounding
from fgmm.eval import gates, kinds
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {
    "name": "narrated_shapes",
    "split": "validation",
    "clips": 13,
    "size": 32,
    "frames": 4,
    "noise": 0.5,
    "captions": (2, 3),
}


@functools.cache
def built(argument="fine=gated"):
    return experiments.build(shrunken(quickstart.get_config(argument), pair="video_text"))


@functools.cache
def state():
    return jax.jit(built().init)(5)


def result_of(state):
    return gates.Evaluation(source=SOURCE, batch_size=8).bind(built())(state)


def with_gate(state, modality, kernel):
    model = dict(state.params["model"])
    model[f"gates_joint_{modality}"] = {"logit": {"kernel": kernel}}
    return state.replace(params={**state.params, "model": model})


def test_without_training_every_kind_has_its_share_of_the_entries():
    result = result_of(state())
    for side, of_side in (("phrases", kinds.PHRASES), ("cells", kinds.CELLS)):
        for kind in of_side:
            uniform = result[f"{side}/{kind}/uniform"]
            assert result[f"{side}/{kind}/weight"] == pytest.approx(uniform, abs=1e-6)
            assert 0.01 < uniform < 0.99
        assert sum(result[f"{side}/{kind}/uniform"] for kind in of_side) == pytest.approx(1)
    assert result["phrases/auc"] == 0.5
    assert result["clips"] == 13


def test_weights_of_phrases_are_those_of_all_captions_of_a_clip():
    """Against loops over clips, captions and phrases."""
    shape = state().params["model"]["gates_joint_text"]["logit"]["kernel"].shape
    kernel = jax.random.normal(jax.random.key(0), shape)
    turned = with_gate(state(), "text", kernel)
    evaluation = gates.Evaluation(source=SOURCE, batch_size=8).bind(built())
    expected = {kind: [] for kind in kinds.PHRASES}
    refers, wrongs = [], []
    for record in range(13):
        example = evaluation.assembler(record)
        batch = {k: v[None] for k, v in example.items() if k not in ("record", "problems")}
        text = jax.device_get(built().embed(turned, batch))["joint"]["text"]
        clip = evaluation.assembler.source[record]
        found = grounding.of_clip(clip, evaluation.assembler.shape, evaluation.segmenter)
        places = {(reference.caption, reference.phrase) for reference in found}
        true = {caption for caption, _ in places}
        weight = dict.fromkeys(kinds.PHRASES, 0.0)
        for caption, phrase in zip(*np.nonzero(text.mask[0]), strict=True):
            logit = float(text.gates[0, caption, phrase])
            if (caption, phrase) in places:
                kind = "refer"
                refers.append(logit)
            elif caption in true:
                kind = "rest"
            else:
                kind = "wrong"
                wrongs.append(logit)
            weight[kind] += np.exp(logit)
        for kind, value in weight.items():
            expected[kind].append(value / sum(weight.values()))
    result = evaluation(turned)
    for kind, values in expected.items():
        assert result[f"phrases/{kind}/weight"] == pytest.approx(np.mean(values), rel=1e-4)
    auc = np.mean([(r > w) + (r == w) / 2 for r in refers for w in wrongs])
    assert result["phrases/auc"] == pytest.approx(auc, abs=1e-6)
    assert result["phrases/auc_low"] < auc < result["phrases/auc_high"]
    assert abs(auc - 0.5) > 0.01


def test_the_table_has_the_share_of_the_entries_as_chance():
    evaluation = gates.Evaluation(source=SOURCE, batch_size=8)
    table = evaluation.table(result_of(state()))
    assert "phrases, wrong" in table
    assert "chance" in table
    assert "50.0% (50.0% to 50.0%; 50% by chance)" in table


@pytest.mark.parametrize(
    ("argument", "term", "message"),
    [
        ("fine=info_nce", "", "no term on video and text has learned weights; set weighting"),
        ("fine=gated", "coarse_video_text", "allowed: fine_video_text"),
    ],
)
def test_a_term_without_learned_weights_is_refused(argument, term, message):
    with pytest.raises(ConfigError, match=message):
        gates.Evaluation(source=SOURCE, term=term).bind(built(argument))


def test_a_corpus_without_grounding_is_refused():
    with pytest.raises(ConfigError, match="knows what its phrases"):
        gates.Evaluation(source={**SOURCE, "noise": 1.0}).bind(built())
