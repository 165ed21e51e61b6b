import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.data.schema import BadInput, Caption
from fgmm.eval import retrieval
from fgmm.eval.bank import Bank
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {
    "name": "narrated_shapes",
    "split": "train",
    "clips": 21,
    "size": 32,
    "frames": 4,
    "captions": (2, 3),
}


@pytest.fixture(scope="module")
def experiment():
    config = shrunken(quickstart.get_config("fine=info_nce"))
    config.data.join_captions = False
    return experiments.build(components.complete(config))


@pytest.fixture(scope="module")
def state(experiment):
    return jax.jit(experiment.init)(0)


def brute_force(experiment, state, source, captions, modality="video"):
    """R@k and ranks by loops over clips and captions, from single embeddings. What cannot be read
    has the worst rank.
    """
    assembler = experiment.assembler(source, captions=captions)
    spaces, texts = [], []
    for record in range(len(source)):
        batch = {name: x[None] for name, x in assembler(record).items()}
        if not batch["text_mask"].any():
            continue
        readable = batch[f"{modality}_mask"][0]
        found = jax.device_get(experiment.embed(state, batch))["joint"]
        spaces.append((readable, found))
        spoken = [c.text for c in source[record].captions if c.text.strip()]
        texts.append(spoken[:captions])
    ranks = {"coarse": [], "fine": []}
    temperature = experiment.objective.terms["fine_video_text"].term.attention_temperature
    for owner, said in enumerate(texts):
        for k, text in enumerate(said):
            scores = {"coarse": [], "fine": []}
            for readable, space in spaces:
                if not readable:
                    scores["coarse"].append(-np.inf)
                    scores["fine"].append(-np.inf)
                    continue
                clip, caption = space[modality], spaces[owner][1]["text"]
                scores["coarse"].append(float(clip.coarse[0] @ caption.coarse[0, k]))
                pooled = []
                for phrase in caption.local[0, k][caption.mask[0, k]]:
                    a = clip.local[0] @ phrase
                    w = np.exp((a - a.max()) / temperature)
                    pooled.append((w / w.sum()) @ a)
                scores["fine"].append(float(np.mean(pooled)))
            correct = [i for i, other in enumerate(texts) if text in other]
            for name, values in scores.items():
                best = max(values[i] for i in correct)
                wrong = [v for i, v in enumerate(values) if i not in correct]
                ranks[name].append(1 + sum(v >= best for v in wrong))
    return texts, ranks


def test_it_is_what_loops_over_clips_and_captions_give(experiment, state):
    evaluation = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8).bind(experiment)
    result = evaluation(state)
    source = experiment.source(SOURCE, "source")
    texts, ranks = brute_force(experiment, state, source, captions=2)
    assert result["clips"] == 21
    assert result["captions"] == sum(map(len, texts))
    for score in ("coarse", "fine"):
        expected = np.array(ranks[score])
        for k in (1, 5, 10):
            assert result[f"{score}/text_to_video/r@{k}"] == pytest.approx((expected <= k).mean())
        assert result[f"{score}/text_to_video/mean_rank"] == pytest.approx(expected.mean())
        assert result[f"{score}/text_to_video/median_rank"] == pytest.approx(np.median(expected))


def test_all_that_is_said_of_a_clip_is_one_query_if_asked_for(experiment, state):
    joining = ml_collections.ConfigDict(experiment.config)
    joining.data.join_captions = True
    room = {"source": SOURCE, "batch_size": 8, "phrases": 16, "tokens": 96}
    asked = retrieval.Evaluation(**room, captions=2, join_captions=True).bind(experiment)
    trained = retrieval.Evaluation(**room).bind(experiments.build(joining))
    result = asked(state)
    assert result["captions"] == result["clips"] == 21
    assert result == trained(state)
    for bound in (asked, trained):
        assert (bound.protocol["join_captions"], bound.protocol["captions"]) == (True, 1)


class Damaged:
    """A corpus with a broken picture, an empty caption and a clip that nobody speaks of."""

    def __init__(self, source):
        self.source, self.report = source, source.report

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        def broken():
            raise BadInput("unreadable_video")

        changes = {
            3: {"video": broken},
            4: {"captions": (Caption(" "), Caption("a red circle"))},
            5: {"captions": ()},
        }
        return dataclasses.replace(self.source[index], **changes.get(int(index), {}))


def test_what_cannot_be_read_is_not_found_and_counted(experiment, state):
    evaluation = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8)
    bound = evaluation.bind(experiment)
    bound.source = Damaged(bound.source)
    for assembler in bound.assemblers.values():
        assembler.source = bound.source
    result = bound(state)
    texts, ranks = brute_force(experiment, state, bound.source, captions=2)
    assert result["clips"] == len(texts) == 20
    assert result["unreadable_clips"] == 1
    assert result["left_out_clips"] == 1
    worst = [rank for rank in bound.by_query["fine/video_to_text/rank"] if rank > 1]
    assert max(worst) == 1 + result["captions"] - 2
    assert "of them unreadable, which count as not found: 1" in evaluation.table(result)
    assert result["fine/text_to_video/mean_rank"] == pytest.approx(np.mean(ranks["fine"]))
    problems = {k: v for k, v in result.items() if k.startswith("bad_input/")}
    assert problems == {
        "bad_input/unreadable_video": 1,
        "bad_input/empty_caption": 1,
        "bad_input/no_captions": 1,
    }


def all_scores(bound, parameters, gallery):
    everything = slice(0, len(gallery.x)), slice(0, len(gallery.y))
    return bound._tile(parameters, gallery, *everything)


def test_gates_weigh_the_fine_score_whatever_the_gallery():
    config = shrunken(quickstart.get_config("fine=gated"))
    config.data.join_captions = False
    experiment = experiments.build(components.complete(config))
    state = jax.jit(experiment.init)(0)
    model = dict(state.params["model"])
    for name, gate in model.items():
        if name.startswith("gates_"):
            kernel = gate["logit"]["kernel"]
            model[name] = {"logit": {"kernel": jax.random.normal(jax.random.key(1), kernel.shape)}}
    state = state.replace(params={**state.params, "model": model})
    bound = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8).bind(experiment)
    gallery, _ = bound._gallery(state)
    clips, texts = (side.rows(slice(None)) for side in (gallery.x, gallery.y))
    a = np.einsum("bnd,cpd->bcnp", clips.local, texts.local)
    there = 0.05 * np.log(np.exp(a / 0.05).mean(2))
    mask = texts.mask[None, :, None]
    back = 0.05 * np.log(np.where(mask, np.exp(a / 0.05), 0).sum(3) / mask.sum(3))
    gamma = np.exp(clips.gates) / np.exp(clips.gates).sum(1, keepdims=True)
    beta = np.where(texts.mask, np.exp(texts.gates), 0)
    beta /= beta.sum(1, keepdims=True)
    assert np.ptp(gamma) > 0.01
    assert np.ptp(beta) > 0.01
    expected = (np.einsum("cp,bcp->bc", beta, there) + np.einsum("bn,bcn->bc", gamma, back)) / 2
    parameters = state.params["objective"]
    found = all_scores(bound, parameters, gallery)["fine"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(texts.mask))
    ids = [gallery.y.ids[i] for i in order]
    turned = jax.tree.map(lambda v: v[order], texts)
    bank = Bank(turned.coarse, turned.local, turned.mask, ids, turned.gates)
    moved = all_scores(bound, parameters, gallery._replace(y=bank))["fine"]
    np.testing.assert_allclose(moved, found[:, order], atol=1e-6)


def test_sound_by_text(experiment, state):
    evaluation = retrieval.Evaluation(source=SOURCE, pair="audio_text", batch_size=8)
    result = evaluation.bind(experiment)(state)
    assert 0 < result["coarse/text_to_audio/mean_rank"] <= 21
    assert "fine/audio_to_text/r@10" in result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pair": "text_video"},
            "pair='text_video' is unknown; allowed: video_text, video_audio, audio_text",
        ),
        ({"space": "nope"}, "space='nope' does not have both sides of video_text; allowed: joint"),
        ({"term": "coarse_video_text"}, "is no fine term .*allowed: fine_video_text"),
        ({"source": {"name": "nope"}}, r"retrieval\.source\.name='nope' is unknown"),
    ],
)
def test_wrong_options_are_named(experiment, options, message):
    with pytest.raises(ConfigError, match=message):
        retrieval.Evaluation(**{"source": SOURCE, **options}).bind(experiment)


def test_the_table_has_chance_beside_every_score(experiment, state):
    evaluation = retrieval.Evaluation(source=SOURCE, batch_size=8)
    table = evaluation.table(evaluation.bind(experiment)(state))
    assert "fine, text to video" in table
    assert "coarse, video to text" in table
    assert table.count("chance") == 5
    assert "gallery: 21 clips" in table


@pytest.mark.parametrize("score", ["sum", "fine", "coarse"])
def test_the_score_of_the_objective_comes_first(state, score):
    config = shrunken(quickstart.get_config("fine=info_nce"))
    config.data.join_captions = False
    config.objective.score = score
    experiment = experiments.build(components.complete(config))
    bound = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8).bind(experiment)
    names = [name.split("/")[0] for name in bound(state) if name.count("/") == 2]
    assert list(dict.fromkeys(names)) == [score, *(n for n in NAMES if n != score)]
    assert bound.protocol["scores"][0] == score


NAMES = ("sum", "fine", "coarse")


def test_the_sum_divides_each_score_by_its_temperature(experiment, state):
    bound = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8).bind(experiment)
    parameters = {name: dict(p) for name, p in state.params["objective"].items()}
    parameters["fine_video_text"]["log_temperature"] = jnp.log(0.5)
    parameters["coarse_video_text"]["log_temperature"] = jnp.log(0.25)
    scores = all_scores(bound, parameters, bound._gallery(state)[0])
    assert np.ptp(scores["fine"]) > 0.01
    np.testing.assert_allclose(scores["sum"], 2 * scores["fine"] + 4 * scores["coarse"], rtol=1e-5)


def test_a_pair_without_coarse_term_ranks_by_the_fine_score(state):
    config = shrunken(quickstart.get_config("fine=info_nce"))
    config.data.join_captions = False
    del config.objective.terms["coarse_video_text"]
    experiment = experiments.build(components.complete(config))
    bound = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8).bind(experiment)
    assert bound.ranking.names == ("fine", "coarse")


def test_a_score_without_a_term_of_its_level_is_refused():
    config = shrunken(quickstart.get_config(argument="fine=none"))
    config.objective.score = "fine"
    with pytest.raises(ConfigError, match="score 'fine' needs a term of that level"):
        experiments.build(components.complete(config))


def test_there_is_room_for_as_many_phrases_as_asked_for(experiment, state):
    """Phrases for which there is no room are counted, and change no other phrase."""
    results = {}
    for phrases, tokens in ((0, 0), (2, 48), (16, 96)):
        evaluation = retrieval.Evaluation(
            source=SOURCE, captions=2, batch_size=8, phrases=phrases, tokens=tokens
        )
        bound = evaluation.bind(experiment)
        texts = bound._gallery(state)[0].y.rows(slice(None))
        results[phrases] = (texts.local, texts.mask, bound(state)["phrases_left_out"])
    (few, few_mask, share), (many, many_mask, none) = results[2], results[16]
    assert few.shape[1] == 2
    assert many.shape[1] == 16
    np.testing.assert_array_equal(many_mask[:, :2], few_mask)
    np.testing.assert_allclose(many[:, :2][few_mask], few[few_mask], atol=1e-5)
    assert none == 0
    assert share == pytest.approx(1 - few_mask.sum() / many_mask.sum())
    assert 0.1 < share < 0.9


def ranked(bound, name):
    """The ranks of the last call, from text and to text."""
    return [
        bound.by_query[f"{name}/{direction}/rank"]
        for direction in ("text_to_video", "video_to_text")
    ]


def test_a_shortlist_of_everything_is_the_whole_gallery(experiment, state):
    options = {"source": SOURCE, "captions": 2, "batch_size": 8, "shortlist": 64}
    evaluation = retrieval.Evaluation(**options, correct_hubs=True)
    bound = evaluation.bind(experiment)
    result = bound(state)
    for shortlisted, whole in zip(
        ranked(bound, "coarse_then_sum"), ranked(bound, "sum"), strict=True
    ):
        # Two programs may round a tie apart.
        assert np.mean(np.array(shortlisted) == whole) > 0.95
    assert result["coarse_then_sum/text_to_video/share_of_pairs"] == 1
    assert "sum_csls/video_to_text/r@1_low" in result
    table = evaluation.table(result)
    assert "coarse, then sum, text to video" in table
    assert "coarse, hubs corrected (CSLS), video to text" in table
    assert "100.0% of the fine pairs" in table


def test_without_all_pairs_there_are_shortlists(experiment, state):
    evaluation = retrieval.Evaluation(source=SOURCE, batch_size=8, exhaustive=False, shortlist=3)
    bound = evaluation.bind(experiment)
    result = bound(state)
    scores = {name.split("/")[0] for name in result if name.count("/") == 2}
    assert scores == {"coarse", "coarse_then_sum"}
    assert result["coarse_then_sum/text_to_video/share_of_pairs"] == 3 / 21
    assert 3 / 21 < result["coarse_then_sum/text_to_video/share_of_flops"] < 1
    # No query that the coarse score leaves off the list is found on it.
    for listed, coarse in zip(
        ranked(bound, "coarse_then_sum"), ranked(bound, "coarse"), strict=True
    ):
        assert all(a == b for a, b in zip(listed, coarse, strict=True) if b > 3 and a > 3)


def test_every_part_of_a_gallery_is_one_of_its_own(experiment, state):
    bound = retrieval.Evaluation(source=SOURCE, captions=2, batch_size=8, folds=3).bind(experiment)
    result = bound(state)
    gallery, _ = bound._gallery(state)
    scores = all_scores(bound, state.params["objective"], gallery)["coarse"]
    relevant = gallery.relevance.tile(slice(0, len(gallery.x)), slice(0, len(gallery.y)))
    expected = []
    for first in (0, 7, 14):
        own = (gallery.owner >= first) & (gallery.owner < first + 7)
        part = slice(first, first + 7), own
        expected += retrieval.metrics.retrieval_ranks(scores[part].T, relevant[part].T).tolist()
    assert ranked(bound, "coarse")[0] == expected
    assert result["coarse/text_to_video/chance_r@1"] >= 1 / 7
    with pytest.raises(ConfigError, match="folds=2 does not divide the 21 clips"):
        retrieval.Evaluation(source=SOURCE, batch_size=8, folds=2).bind(experiment)(state)


AUDIO = ("audio", "audio_mask")


def test_pictures_and_sounds_find_each_other(experiment, state):
    evaluation = retrieval.Evaluation(source=SOURCE, pair="video_audio", batch_size=8)
    bound = evaluation.bind(experiment)
    result = bound(state)
    x = bound._gallery(state)[0].x.coarse
    examples = [bound.assemblers["audio"](record) for record in range(21)]
    sounds = {name: np.stack([example[name] for example in examples]) for name in AUDIO}
    y = jax.device_get(experiment.embed(state, sounds))["joint"]["audio"].coarse
    expected = retrieval.metrics.retrieval_ranks(x @ y.T, np.eye(21, dtype=bool))
    assert bound.by_query["coarse/video_to_audio/rank"] == expected.tolist()
    assert "gallery: 21 clips, 21 sounds" in evaluation.table(result)


def test_a_checkpoint_without_the_modality_is_one_clear_error():
    config = shrunken(quickstart.get_config("fine=info_nce"), pair="video_text")
    built = experiments.build(components.complete(config))
    with pytest.raises(ConfigError, match="retrieval: the checkpoint has no audio encoder"):
        retrieval.Evaluation(source=SOURCE, pair="video_audio").bind(built)
