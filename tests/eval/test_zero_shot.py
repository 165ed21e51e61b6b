import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm import losses
from fgmm.config import ConfigError
from fgmm.data.text import phrases
from fgmm.eval import zero_shot
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {"name": "tests.eval.labelled_fixture", "recordings": 9, "windows": 2}
SHAPES = {"name": "narrated_shapes", "split": "motion", "clips": 40, "size": 32, "frames": 4}
TEMPLATES = ("a {} circle", "now the big {} square, is moving left")


@pytest.fixture(scope="module")
def experiment():
    return experiments.build(shrunken(quickstart.get_config("fine=info_nce")))


@pytest.fixture(scope="module")
def state(experiment):
    return jax.jit(experiment.init)(7)


def evaluation(source=SOURCE, label="colour", **options):
    return zero_shot.Evaluation(source=source, label=label, **{"batch_size": 8, **options})


def class_scores(experiment, state, bound, words, templates, modality):
    """Scores [levels, recordings, classes] from single embeddings, by loops."""
    temperature = experiment.objective.terms[f"fine_{modality}_text"].term.attention_temperature
    shape = experiment.shape
    prompts = []
    for said in words:
        for template in templates:
            tokens, ids = experiment.tokenizer.encode(
                template.format(said),
                segmenter=phrases.find(experiment.config.data.segmenter),
                tokens=shape.tokens,
                phrases=shape.phrases,
            )
            batch = {"tokens": tokens[None, None], "phrase_ids": ids[None, None]}
            batch["text_mask"] = np.ones((1, 1), bool)
            prompts.append(jax.device_get(experiment.embed(state, batch))["joint"]["text"])
    assembler, scores = bound.recordings.assembler, {}
    for record in range(len(assembler.source)):
        batch = {name: x[None] for name, x in assembler(record).items()}
        if not batch[f"{modality}_mask"][0]:
            continue
        clip = jax.device_get(experiment.embed(state, batch))["joint"][modality]
        coarse, fine = [], []
        for c in range(len(words)):
            own = prompts[c * len(templates) : (c + 1) * len(templates)]
            mean = np.mean([p.coarse[0, 0] for p in own], axis=0)
            coarse.append(clip.coarse[0] @ mean / np.linalg.norm(mean))
            pooled = []
            for prompt in own:
                a = clip.local[0] @ prompt.local[0, 0][prompt.mask[0, 0]].T
                w = np.exp((a - a.max(axis=0)) / temperature)
                pooled.append(((w * a).sum(axis=0) / w.sum(axis=0)).mean())
            fine.append(np.mean(pooled))
        scores.setdefault(assembler.source[record].clip_id, []).append((coarse, fine))
    return np.stack([np.mean(windows, axis=0) for windows in scores.values()], axis=1)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_it_is_what_loops_over_clips_and_prompts_give(experiment, state, modality):
    words = {"left": "moving left", "shaking": "rocking to and fro"}
    templates = ("the star is {}", "watch the ball, it keeps {}")
    bound = evaluation(SHAPES, "motion", modality=modality, templates=templates, words=words).bind(
        experiment
    )
    result = bound(state)
    source = bound.recordings.assembler.source
    said = [words.get(name, name) for name in source.classes["motion"]]
    scores = class_scores(experiment, state, bound, said, templates, modality)
    labels = np.array([source[i].labels["motion"] for i in range(40)])
    for level, found in zip(("coarse", "fine"), scores, strict=True):
        own = found[np.arange(40), labels][:, None]
        ranks = (found >= own).sum(axis=1)
        assert result[f"{level}/accuracy@1"] == np.mean(ranks == 1)
        assert result[f"{level}/accuracy@5"] == np.mean(ranks <= 5)
        recall = [np.mean(ranks[labels == label] == 1) for label in set(labels)]
        assert result[f"{level}/mean_class_accuracy"] == pytest.approx(np.mean(recall))
        assert result[f"{level}/chance_accuracy@1"] == 1 / 8
        assert result[f"{level}/chance_accuracy@5"] == 5 / 8
    assert (result["clips"], result["windows"], result["classes_partly_unknown"]) == (40, 40, 0)


def test_gates_weigh_the_fine_score_of_prompts():
    gated = experiments.build(shrunken(quickstart.get_config()))
    state = jax.jit(gated.init)(7)
    model = dict(state.params["model"])
    for name in [name for name in model if name.startswith("gates_")]:
        kernel = model[name]["logit"]["kernel"]
        model[name] = {"logit": {"kernel": jax.random.normal(jax.random.key(1), kernel.shape)}}
    state = state.replace(params={**state.params, "model": model})
    bound = evaluation({**SHAPES, "clips": 3}, "motion", templates=TEMPLATES).bind(gated)
    prompts = bound._prompt_embeddings(state)
    assembler, pooling = bound.recordings.assembler, {"pool": "logsumexp", "temperature": 0.05}
    batch = {name: np.stack([assembler(i)[name] for i in range(3)]) for name in assembler(0)}
    clips = jax.device_get(gated.embed(state, batch))["joint"]["video"]
    found = bound._scores(state.params["objective"], prompts, clips)
    assert np.ptp(clips.gates) > 0.01
    for clip, by_level in enumerate(found):
        expected = [
            losses.clip_similarity(
                *(clips.local[clip][None], prompts.local[prompt][None]),
                *(None, prompts.mask[prompt][None]),
                direction="symmetric",
                **pooling,
                x_gate=clips.gates[clip][None],
                y_gate=prompts.gates[prompt][None],
            ).values[0, 0]
            for prompt in range(len(prompts.local))
        ]
        by_class = np.reshape(expected, (-1, len(TEMPLATES))).mean(axis=1)
        fine = by_level[list(bound.ranking.names).index("fine")]
        np.testing.assert_allclose(fine, by_class, atol=1e-5)


def test_windows_are_averaged_and_bad_input_is_left_out(experiment, state):
    # One window of recording 0, both of recording 2.
    options = evaluation({**SOURCE, "broken": (0, 4, 5)}, templates=TEMPLATES)
    bound = options.bind(experiment)
    result = bound(state)
    words = ["red", "lime green", "blue"]
    assert bound.protocol["words"] == dict(zip(["red", "lime_green", "blue"], words, strict=True))
    scores = class_scores(experiment, state, bound, words, TEMPLATES, "video")
    labels = np.array([0, 1, 0, 1, 2, 0, 1, 2])
    for level, found in zip(("coarse", "fine"), scores, strict=True):
        assert result[f"{level}/accuracy@1"] == np.mean(found.argmax(axis=1) == labels)
        assert f"{level}/accuracy@5" not in result
    assert (result["clips"], result["clips_left_out"], result["windows"]) == (8, 1, 15)
    assert result["bad_input/unreadable_video"] == 3
    table = options.table(result)
    assert table.count("chance") == 2
    assert "8 clips in 15 windows" in table
    assert "problems in the input: 5" in table


def test_classes_in_another_order_give_the_same(experiment, state):
    """The score of a class depends on its own words alone."""
    bound = evaluation(templates=TEMPLATES).bind(experiment)
    turned = evaluation(templates=TEMPLATES, words={"red": "blue", "blue": "red"}).bind(experiment)
    prompts, turned_prompts = bound._prompt_embeddings(state), turned._prompt_embeddings(state)
    np.testing.assert_allclose(prompts.coarse[:2], turned_prompts.coarse[4:], atol=1e-6)
    np.testing.assert_allclose(prompts.coarse[2:4], turned_prompts.coarse[2:4], atol=1e-6)


def test_without_a_fine_term_there_are_coarse_scores(state):
    config = shrunken(quickstart.get_config("fine=none"))
    coarse = experiments.build(config)
    options = evaluation()
    result = options.bind(coarse)(jax.jit(coarse.init)(0))
    assert "coarse/accuracy@1" in result
    assert not [name for name in result if name.startswith("fine/")]
    assert "fine" not in options.table(result)


def test_words_spelled_in_part_are_counted(experiment, state):
    options = evaluation(words={"red": "red 赤", "blue": "青 blue"})
    result = options.bind(experiment)(state)
    assert result["classes_partly_unknown"] == 2
    assert "spells only in part: 2" in options.table(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "text"}, "modality='text' is unknown; allowed: video, audio"),
        ({"label": "action"}, r"zero_shot\.source: label='action' is unknown"),
        ({"templates": ()}, "templates is empty"),
        ({"templates": ("a thing",)}, "'a thing', which must have {} once"),
        ({"templates": ("{} and {}",)}, "must have {} once"),
        ({"words": {"pink": "pink"}}, r"words\.pink is no class; allowed: red, lime_green, blue"),
        ({"words": {"red": " "}}, r"words\.red=' ' must be words"),
        ({"words": {"red": ("red", "crimson")}}, "must be words"),
        ({"words": {"red": "blue"}}, "words of red and blue are the same, 'blue'"),
        ({"words": {"red": "赤"}}, "knows no piece of '赤', the words of class 'red'"),
        ({"templates": ("look, " * 60 + "{}",)}, "pieces are the same for 'red' and 'lime green'"),
        ({"words": {"red": "blue 赤", "blue": "blue 青"}}, "are the same for 'blue 赤' and"),
        ({"space": "nope"}, "space='nope' does not have both sides of video_text; allowed: joint"),
        ({"term": "coarse_video_text"}, "is no fine term .*allowed: fine_video_text"),
    ],
)
def test_wrong_options_are_named(experiment, options, message):
    with pytest.raises(ConfigError, match=message):
        evaluation(**options).bind(experiment)


def test_a_corpus_with_nothing_to_see_is_one_clear_error(experiment, state):
    bound = evaluation({**SOURCE, "broken": tuple(range(18))}).bind(experiment)
    with pytest.raises(ConfigError, match=r"zero_shot\.source: no clip has video"):
        bound(state)


def test_a_checkpoint_without_text_is_one_clear_error():
    config = shrunken(quickstart.get_config("fine=info_nce"))
    config.model.spaces.joint.modalities = ("video", "audio")
    del config.model.text
    for name in list(config.objective.terms):
        if "text" in name:
            del config.objective.terms[name]
    with pytest.raises(ConfigError, match="no text encoder; it has: video, audio"):
        evaluation().bind(experiments.build(config))
