import dataclasses
import functools

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm.config import ConfigError
from fgmm.data.schema import BadInput, Caption
from fgmm.data.text import phrases
from fgmm.eval import inside_training, pointing_game
from fgmm.experiment import build as experiments
from tests.shrunken import shrunken

SOURCE = {
    "name": "narrated_shapes",
    "split": "validation",
    "clips": 13,
    "size": 32,
    "frames": 4,
    "captions": (2, 3),
}


@functools.cache
def built(argument=None):
    return experiments.build(shrunken(quickstart.get_config(argument), pair="video_text"))


@functools.cache
def state_of(argument=None, seed=5):
    return jax.jit(built(argument).init)(seed)


@functools.cache
def bound_of(argument=None):
    return pointing_game.Evaluation(source=SOURCE, batch_size=8).bind(built(argument))


@functools.cache
def result_of(argument=None):
    return bound_of(argument)(state_of(argument))


def brute_force(experiment, state):
    """Hits and chance by loops over phrases, cells and frames, from the schema's definition."""
    source = experiment.source(SOURCE, "source")
    assembler = dataclasses.replace(experiment.assembler(source, captions=5), join_captions=False)
    hits, chance, frame_hits = {}, {}, {}
    for record in range(len(source)):
        clip = source[record]
        batch = {name: x[None] for name, x in assembler(record).items()}
        batch = {k: v for k, v in batch.items() if k not in ("record", "problems")}
        space = jax.device_get(experiment.embed(state, batch))["joint"]
        seen = {}
        for span in clip.grounding:
            spans = phrases.function_words(clip.captions[span.caption].text)
            shared = [len({*range(*s)} & {*range(span.start, span.end)}) for s in spans]
            key = (span.caption, int(np.argmax(shared)), span.boxes.tobytes())
            active = span.active | seen.get(key, (None, np.zeros(4, bool)))[1]
            seen[key] = span.boxes, active
        for (caption, phrase, _), (boxes, active) in seen.items():
            similarity = space["video"].local[0] @ space["text"].local[0, caption, phrase]
            similarity = similarity.reshape(2, 4, 4)

            def on_object(frame, row, column, boxes=boxes):
                # The batch holds frames 1 and 3 of four.
                top, left, bottom, right = boxes[(1, 3)[frame]]
                y, x = (row + 0.5) / 4, (column + 0.5) / 4
                return any(top <= y + i < bottom for i in (-1, 0, 1)) and any(
                    left <= x + i < right for i in (-1, 0, 1)
                )

            def hit(frame, row, column, active=active, on_object=on_object):
                return bool(active[(1, 3)[frame]]) and on_object(frame, row, column)

            kind = "object" if active.all() else "action"
            cells = list(np.ndindex(2, 4, 4))
            peak = np.unravel_index(similarity.argmax(), (2, 4, 4))
            hits.setdefault(kind, []).append(hit(*peak))
            chance.setdefault(kind, []).append(np.mean([hit(*cell) for cell in cells]))
            in_frames = [
                on_object(frame, *np.unravel_index(similarity[frame].argmax(), (4, 4)))
                for frame in range(2)
                if active[(1, 3)[frame]]
            ]
            frame_hits.setdefault(kind, []).append(np.mean(in_frames) if in_frames else 0)
    return hits, chance, frame_hits


def test_it_is_what_loops_over_phrases_give():
    result = result_of()
    hits, chance, frame_hits = brute_force(built(), state_of())
    assert sorted(hits) == ["action", "object"]
    for kind, values in hits.items():
        assert result[f"phrases/{kind}"] == len(values) > 5
        assert result[f"attention/{kind}/hit"] == pytest.approx(np.mean(values))
        assert result[f"chance/{kind}/hit"] == pytest.approx(np.mean(chance[kind]))
        frames = np.mean(frame_hits[kind])
        assert result[f"attention/{kind}/frame_hit"] == pytest.approx(frames)
    untrained, _, _ = brute_force(built(), state_of(seed=built().config.seed))
    assert result["untrained_attention/object/hit"] == pytest.approx(np.mean(untrained["object"]))
    low, high = result["attention/object/hit_low"], result["attention/object/hit_high"]
    assert low < result["attention/object/hit"] < high
    outcomes = bound_of(None).by_query["attention/object/hit"]
    assert sorted(outcomes) == sorted(map(float, hits["object"]))
    assert len(bound_of(None).queries["object"]["name"]) == len(hits["object"])


def test_only_true_captions_count():
    source = built().source(SOURCE, "source")
    spans = {(i, s.caption) for i in range(13) for s in source[i].grounding}
    captions = sum(len(source[i].captions) for i in range(13))
    assert 0 < len(spans) < captions
    clips = len({i for i, _ in spans})
    assert result_of()["clips"] == clips < 13


def test_a_coarse_model_is_measured_by_its_class_activation_map():
    result = result_of("fine=none")
    ways = {name.partition("/")[0] for name in result if name.count("/") == 2}
    assert ways == {"cam", "untrained_cam", "chance", "centre", "best_cell"}
    assert result["chance/object/hit"] == result_of()["chance/object/hit"]


def random_targets(rng, count=40):
    hit = rng.random((count, 2, 4, 4)) < 0.3
    hit[:, 0, 0, 0] = True
    frames = rng.random((count, 4, 4, 4)) < 0.3
    active = rng.random((count, 4)) < 0.6
    active[:, 1] = True
    frames[:, :, 2, 1] = True
    return pointing_game._Targets(
        clip=rng.integers(7, size=count),
        names_object=np.ones(count, bool),
        hit=hit,
        other=(rng.random(hit.shape) < 0.3) & ~hit,
        frames=frames,
        active=active,
    )


def test_maps_that_know_the_answer_and_maps_that_know_nothing():
    targets = random_targets(np.random.default_rng(0))
    perfect = pointing_game._points(targets.hit.astype(float), targets)
    assert perfect["hit"].tolist() == [1] * 40
    assert perfect["other"].tolist() == [0] * 40
    assert (pointing_game._points(-targets.hit.astype(float), targets)["hit"] == 0).all()
    wrong = pointing_game._points(targets.other.astype(float), targets)
    there = targets.other.any(axis=(1, 2, 3))
    assert wrong["other"][there].tolist() == [1] * there.sum()
    column = np.zeros((40, 2, 4, 4))
    column[:, :, 2, 1] = 1
    assert pointing_game._points(column, targets)["frame_hit"].tolist() == [1] * 40

    baselines = pointing_game._baselines(targets)
    chance = pointing_game._points(baselines["chance"], targets)
    assert chance["hit"] == pytest.approx(targets.hit.mean(axis=(1, 2, 3)))
    frames = targets.frames.mean(axis=(2, 3))
    expected = [x[a].mean() for x, a in zip(frames, targets.active, strict=True)]
    assert chance["frame_hit"] == pytest.approx(expected)
    centre = pointing_game._points(baselines["centre"], targets)
    assert centre["hit"] == pytest.approx(targets.hit[:, :, 1:3, 1:3].mean(axis=(1, 2, 3)))
    best = pointing_game._points(baselines["best_cell"], targets)
    assert best["hit"].mean() == targets.hit.mean(axis=0).max() == 1


def test_the_middle_of_an_odd_grid_is_one_cell():
    targets = pointing_game._Targets(
        clip=np.zeros(1, int),
        names_object=np.ones(1, bool),
        hit=np.eye(3, dtype=bool)[None, None],
        other=np.zeros((1, 1, 3, 3), bool),
        frames=np.ones((1, 1, 3, 3), bool),
        active=np.ones((1, 1), bool),
    )
    assert np.argwhere(pointing_game._baselines(targets)["centre"][0, 0]).tolist() == [[1, 1]]


class Damaged:
    """A corpus with a broken picture, and a clip whose first caption has no words."""

    def __init__(self, source):
        self.source, self.report = source, source.report

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        def broken():
            raise BadInput("unreadable_video")

        clip = self.source[index]
        if index == self.with_grounding[0]:
            return dataclasses.replace(clip, video=broken)
        if index == self.with_grounding[1]:
            captions = (Caption(" "), *clip.captions)
            grounding = tuple(span._replace(caption=span.caption + 1) for span in clip.grounding)
            return dataclasses.replace(clip, captions=captions, grounding=grounding)
        return clip

    @property
    def with_grounding(self):
        return [i for i in range(len(self.source)) if self.source[i].grounding]


def test_bad_input_is_left_out_and_counted():
    bound = pointing_game.Evaluation(source=SOURCE, batch_size=8).bind(built())
    bound.assembler.source = Damaged(bound.assembler.source)
    result = bound(state_of())
    assert result["clips"] == result_of()["clips"] - 1
    problems = {k: v for k, v in result.items() if k.startswith("bad_input/")}
    assert problems == {"bad_input/unreadable_video": 1, "bad_input/empty_caption": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"term": "fine_audio_text"}, "pointing_game: term='fine_audio_text' is no term on video_"),
        ({"source": {**SOURCE, "noise": 1.0}}, "no clip of 'narrated_shapes' knows what"),
        ({"source": {"name": "nope"}}, r"pointing_game\.source\.name='nope' is unknown"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        pointing_game.Evaluation(**{"source": SOURCE, **options}).bind(built())


def test_a_model_without_text_is_an_error():
    config = shrunken(quickstart.get_config())
    for name in list(config.objective.terms):
        if name.endswith("text"):
            del config.objective.terms[name]
    del config.model.text
    config.model.spaces.joint.modalities = ("video", "audio")
    config.evals = {}
    config.checkpoint.best_metric = ""
    experiment = experiments.build(components.complete(config))
    with pytest.raises(
        ConfigError, match=r"pointing_game: .* a term on video_text; it has video_a"
    ):
        pointing_game.Evaluation(source=SOURCE).bind(experiment)


def test_the_table_shows_what_to_compare_with():
    evaluation = pointing_game.Evaluation(source=SOURCE)
    lines = evaluation.table(result_of()).splitlines()
    ways = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert ways[2:4] == ["attention", "cam"]
    assert ways[4:] == ["untrained attention", "untrained cam", "chance", "centre", "best cell"]
    assert "object hit" in lines[0]
    low = result_of()["attention/object/hit_low"]
    assert f"({100 * low:.2f} to " in lines[2]
    assert f"{result_of()['phrases/object']:.0f} object phrases" in lines[-1]


def test_it_is_an_entry_of_a_config():
    config = shrunken(quickstart.get_config())
    config.evals.pointing = {"name": "pointing_game", "source": SOURCE}
    config = components.complete(config)
    assert (config.evals.pointing.captions, config.evals.pointing.term) == (5, "")
    evaluators = inside_training.from_config(experiments.build(config))
    maps = {"attention": "fine_video_text", "cam": "coarse_video_text"}
    assert evaluators["pointing"].run.protocol["maps"] == maps
