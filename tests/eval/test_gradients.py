"""Shares of the gradient, against loops over clips and phrases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from fgmm.config import ConfigError
from fgmm.data import grounding
from fgmm.eval import gradients, kinds
from fgmm.experiment import build as experiments
from fgmm.train import mesh as meshes
from tests.shrunken import shrunken

SOURCE = {
    "name": "narrated_shapes",
    "split": "validation",
    "clips": 9,
    "size": 32,
    "frames": 4,
    "noise": 0.5,
    "captions": (2, 3),
}


@functools.cache
def built(join):
    config = shrunken(quickstart.get_config("fine=gated"), pair="video_text")
    config.data.join_captions = join
    return experiments.build(config)


@functools.cache
def state(join):
    return jax.jit(built(join).init)(5)


@functools.cache
def evaluated(join):
    evaluation = gradients.Evaluation(source=SOURCE, batch_size=4).bind(built(join))
    return evaluation, evaluation(state(join))


@pytest.mark.parametrize("join", [False, True])
def test_shares_are_those_of_the_lengths_of_gradients(join):
    """Against ``jax.grad`` of the whole objective, by loops over clips, captions and phrases."""
    experiment, (evaluation, result) = built(join), evaluated(join)
    assert result["clips"] == 8
    params, statistics = state(join).params, state(join).statistics
    variables = {"params": params["model"], **statistics}
    assembler = evaluation.assembler
    of_kind = {kind: [] for kind in kinds.PHRASES}
    for first in (0, 4):
        examples = [assembler(record) for record in range(first, first + 4)]
        names = [name for name in examples[0] if name not in ("record", "problems")]
        batch = {name: jnp.stack([example[name] for example in examples]) for name in names}
        tokens = experiment.apply(variables, experiment.transforms(batch), method="encode")
        K, P = tokens["text"].grid

        def loss(local, tokens=tokens, batch=batch, K=K, P=P):
            text = tokens["text"].replace(local=local)
            if join:
                text = text.replace(grid=(1, K * P))
                ids = batch["phrase_ids"]
                ids = jnp.where(ids > 0, ids + P * jnp.arange(K)[None, :, None], 0)
                batch = {
                    **batch,
                    "tokens": batch["tokens"].reshape(4, 1, -1),
                    "phrase_ids": ids.reshape(4, 1, -1),
                }
            found = experiment.apply(variables, {**tokens, "text": text}, method="embeddings")
            total, _ = experiment.objective(params["objective"], found, batch, 0)
            return total

        lengths = jnp.linalg.norm(jax.grad(loss)(tokens["text"].local), axis=-1).reshape(4, K, P)
        mask = np.asarray(tokens["text"].mask).reshape(4, K, P)
        for row in range(4):
            clip = assembler.source[first + row]
            found = grounding.of_clip(clip, assembler.shape, evaluation.segmenter)
            refer = {(reference.caption, reference.phrase) for reference in found}
            true = {caption for caption, _ in refer}
            got = dict.fromkeys(kinds.PHRASES, 0.0)
            for caption, phrase in zip(*np.nonzero(mask[row]), strict=True):
                there = (caption, phrase) in refer
                kind = "refer" if there else "rest" if caption in true else "wrong"
                got[kind] += float(lengths[row, caption, phrase])
            for kind, value in got.items():
                of_kind[kind].append(value / sum(got.values()))
    for kind, values in of_kind.items():
        share = result[f"loss/phrases/{kind}/share"]
        assert share == pytest.approx(np.mean(values), rel=1e-4)
        assert 0.01 < share < 0.99


def test_every_side_of_every_term_is_shared_out():
    _, result = evaluated(True)
    sides = (("phrases", kinds.PHRASES), ("cells", kinds.CELLS))
    for term in ("coarse_video_text", "fine_video_text", "loss"):
        for side, of_side in sides:
            shares = [result[f"{term}/{side}/{kind}/share"] for kind in of_side]
            assert sum(shares) == pytest.approx(1, abs=1e-5)
    coarse, fine = (result[f"{level}_video_text/cells/on/share"] for level in ("coarse", "fine"))
    assert coarse != fine


def test_joining_changes_the_coarse_term():
    apart, joined = (
        evaluated(join)[1]["coarse_video_text/phrases/refer/share"] for join in (False, True)
    )
    assert abs(apart - joined) > 1e-4


def test_the_table_has_the_share_of_the_entries_as_chance():
    _, result = evaluated(True)
    table = gradients.Evaluation(source=SOURCE, batch_size=4).table(result)
    assert "loss: phrases, wrong" in table
    assert "coarse_video_text: cells, on" in table
    assert "chance" in table


def test_a_corpus_smaller_than_a_batch_is_refused():
    with pytest.raises(ConfigError, match="has 9 clips, and a batch has 10; set batch_size"):
        gradients.Evaluation(source=SOURCE, batch_size=10).bind(built(True))


def test_a_batch_that_devices_do_not_share_evenly_is_refused():
    evaluation, _ = evaluated(True)
    on_mesh = jax.device_put(state(True), meshes.everywhere(meshes.make_mesh(jax.devices()[:3])))
    with pytest.raises(ConfigError, match="batch_size=4 must be a multiple of the 3 devices"):
        evaluation(on_mesh)


def test_a_batch_too_small_for_a_term_is_refused():
    config = shrunken(quickstart.get_config("fine=gated"), pair="video_text")
    config.objective.terms.fine_video_text.update(negatives="hardest", candidates=4)
    experiment = experiments.build(config)
    with pytest.raises(ConfigError, match=r"term 'fine_video_text': .*candidates"):
        gradients.Evaluation(source=SOURCE, batch_size=2).bind(experiment)
