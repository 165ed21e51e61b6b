import copy
import dataclasses
import functools
import importlib
import itertools

import jax
import numpy as np
import pytest

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.data.media.stretch import Stretch
from fgmm.data.pipeline import HOST_ONLY
from fgmm.data.text import phrases
from fgmm.eval import compare, grounding
from fgmm.experiment import build as experiments
from tests.data.video_fixture import write_narrated_videos
from tests.shrunken import shrunken

SOURCE = {"name": "narrated_shapes", "split": "retrieval", "clips": 9, "size": 32, "frames": 8}
TUNING = {**SOURCE, "split": "validation", "noise": 0.0}
WAYS = ("attention", "cam", "untrained_attention", "untrained_cam")
BASELINES = ("chance", "whole_window", "best_span", "ceiling")


@functools.cache
def built():
    config = shrunken(quickstart.get_config(), pair="video_text")
    # As many cells of time as frames.
    config.data.frames, config.data.phrases, config.data.tokens = 4, 16, 64
    return experiments.build(config)


@functools.cache
def state():
    return jax.jit(built().init)(5)


def bound(**options):
    given = {"source": SOURCE, "thresholds": (0.5,), "captions": 2, "batch_size": 8}
    return grounding.Evaluation(**{**given, **options}).bind(built())


@functools.cache
def measured():
    asked = bound()
    return asked(state()), asked


def asked_again(source=SOURCE, **options):
    """The evaluation of other corpora, with what is compiled for the first."""
    _, first = measured()
    again = copy.copy(first)
    again.by_query, again.queries = {}, {}
    again.options = dataclasses.replace(first.options, source=source, **options)
    again._windows = grounding._Windows(built(), source, again.options, "source")
    if tuning := again.options.tuning_source:
        again._tuning = grounding._Windows(built(), tuning, again.options, "tuning_source")
    return again


@functools.cache
def embedded(split):
    """Clips with the cells of each moment and the phrases of its captions, one at a time."""
    source = {SOURCE["split"]: SOURCE, TUNING["split"]: TUNING}[split]
    corpus = built().source(source, "source")
    assembler = built().assembler(corpus, captions=2)
    assembler.join_captions = False
    found = []
    for record in range(len(corpus)):
        example = {k: x for k, x in assembler(record).items() if k not in HOST_ONLY}
        batch = {name: x[None] for name, x in example.items()}
        space = jax.device_get(built().embed(state(), batch))["joint"]
        found.append((corpus[record], space["video"].local[0].reshape(4, -1, 8), space["text"]))
    return found


def by_hand(split, join=1):
    """Phrases by loops: the curve of the fine term over time, and the true spans."""
    clips, found = embedded(split), []
    for record, (clip, _, text) in enumerate(clips[: len(clips) // join * join]):
        first = record - record % join
        cells = np.concatenate([clips[n][1] for n in range(first, first + join)])
        for number, caption in enumerate(clip.captions[:2]):
            for phrase in range(len(phrases.function_words(caption.text))):
                spoken_of = [
                    g
                    for g in clip.grounding
                    if g.caption == number and _mostly(g, phrase, caption.text)
                ]
                if not spoken_of or not text.mask[0, number, phrase]:
                    continue
                frames = [np.flatnonzero(g.active) for g in spoken_of]
                spans = {(f[0] / 8, (f[-1] + 1) / 8) for f in frames}
                spans = {(0.0, 1.0)} if (0.0, 1.0) in spans else spans
                place = record % join
                truths = {((place + s) / join, (place + e) / join) for s, e in spans}
                if truths != {(0.0, 1.0)}:
                    curve = (cells @ text.local[0, number, phrase]).max(axis=1)
                    found.append((record // join, curve, truths))
    return found


def _mostly(g, phrase, text):
    spans = phrases.function_words(text)
    shared = [len({*range(*s)} & {*range(g.start, g.end)}) for s in spans]
    return int(np.argmax(shared)) == phrase and max(shared) > 0


def iou(span, truths):
    def one(truth):
        shared = max(0.0, min(span[1], truth[1]) - max(span[0], truth[0]))
        return shared / (span[1] - span[0] + truth[1] - truth[0] - shared)

    return max(map(one, truths))


def span_of(curve, threshold):
    level = curve.min() + threshold * (curve.max() - curve.min())
    runs, run = [], []
    for cell, value in enumerate(curve):
        if value >= level:
            run.append(cell)
        else:
            runs, run = [*runs, run], []
    (own,) = [run for run in [*runs, run] if int(curve.argmax()) in run]
    return own[0] / len(curve), (own[-1] + 1) / len(curve)


def test_it_is_what_loops_over_phrases_and_spans_give():
    result, asked = measured()
    queries = by_hand("retrieval")
    assert result["queries/phrase"] == len(queries) > 10
    assert result["windows"] == len({record for record, _, _ in queries})
    found = np.array([iou(span_of(curve, 0.5), truths) for _, curve, truths in queries])
    assert sorted(asked.by_query["attention/phrase/iou"]) == pytest.approx(sorted(found))
    assert result["attention/phrase/mean_iou"] == pytest.approx(found.mean())
    for at in (0.3, 0.5, 0.7):
        assert result[f"attention/phrase/r@1_iou_{at}"] == pytest.approx((found >= at).mean())
    spans = [(i / 4, j / 4) for i, j in itertools.combinations(range(5), 2)]
    every = np.array([[iou(span, truths) for span in spans] for _, _, truths in queries])
    assert result["chance/phrase/mean_iou"] == pytest.approx(every.mean())
    assert result["chance/phrase/r@1_iou_0.5"] == pytest.approx((every >= 0.5).mean())
    assert result["ceiling/phrase/mean_iou"] == pytest.approx(every.max(axis=1).mean())
    whole = [iou((0.0, 1.0), truths) for _, _, truths in queries]
    assert result["whole_window/phrase/mean_iou"] == pytest.approx(np.mean(whole))
    grid = [(i / 20, j / 20) for i, j in itertools.combinations(range(21), 2)]
    best = max(np.mean([iou(span, truths) for _, _, truths in queries]) for span in grid)
    assert result["best_span/phrase/mean_iou"] == pytest.approx(best)
    assert {name.partition("/")[0] for name in result if name.count("/") == 2} == {
        *WAYS,
        *BASELINES,
    }


def test_clips_in_a_row_may_be_one_window():
    asked = asked_again(join=4)
    result = asked(state())
    # Nine clips are two windows of four.
    queries = by_hand("retrieval", 4)
    assert result["windows"] == 2
    assert result["queries/phrase"] == len(queries)
    found = [iou(span_of(curve, 0.5), truths) for _, curve, truths in queries]
    assert sorted(asked.by_query["attention/phrase/iou"]) == pytest.approx(sorted(found))
    assert result["whole_window/phrase/mean_iou"] < 0.3
    clips = [clip for clip, _, _ in embedded("retrieval")[:8]]
    assert result["queries/caption"] == sum(min(2, len(clip.captions)) for clip in clips)
    # A caption lasts from the first motion that it tells of to the end of the last.
    first = [g.active for g in clips[0].grounding if g.caption == 0 and not g.active.all()]
    frames = np.flatnonzero(np.any(first, axis=0))
    window = asked._windows
    ((_, times), *_) = [found for found in window.times(0) if found[0] == "caption"]
    assert times.spans == ((frames[0] / 32, (frames[-1] + 1) / 32),)
    assert window.times(5).__next__()[1].spans[0][0] >= 1 / 4


def test_the_threshold_is_chosen_on_other_clips():
    result = asked_again(tuning_source=TUNING, thresholds=(0.2, 0.5, 0.8))(state())
    tuning = by_hand("validation")
    quality = {
        at: np.mean([iou(span_of(curve, at), truths) for _, curve, truths in tuning])
        for at in (0.2, 0.5, 0.8)
    }
    chosen = result["threshold/attention"]
    assert quality[chosen] == pytest.approx(max(quality.values()))
    found = [iou(span_of(curve, chosen), truths) for _, curve, truths in by_hand("retrieval")]
    assert result["attention/phrase/mean_iou"] == pytest.approx(np.mean(found))


def test_the_table_and_outcomes_can_be_compared():
    result, asked = measured()
    evaluation = asked.options
    lines = evaluation.table(result).splitlines()
    ways = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert {"attention", "untrained attention", "chance", "whole window", "ceiling"} <= {*ways}
    assert "phrase r@1 iou 0.5" in lines[0]
    assert f", {result['queries/phrase']:.0f} phrases, " in lines[-1]
    report = {
        "evaluation": "grounding",
        "protocol": {},
        "by_query": asked.by_query,
        "queries": asked.queries,
    }
    same = compare.compared(report, report)
    figure = same["attention/phrase/r@1_iou_0.5"]
    assert figure.first == pytest.approx(result["attention/phrase/r@1_iou_0.5"])
    assert (figure.low, figure.high) == (0, 0)
    assert not any(name.startswith("chance") for name in same)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Of a second, in whose middle something is said."""
    folder = write_narrated_videos(tmp_path_factory.mktemp("videos") / "long", 3)
    for captions in folder.glob("*.vtt"):
        text = captions.read_text()
        times = "00:00.200 --> 00:00.700\nwe see the number {0}\n\n00:00.600 --> 00:01.000"
        times = times.format(captions.stem)
        captions.write_text(text.replace("00:00.000 --> 00:01.000", times))
    return folder


def test_captions_with_times_in_windows_of_several_pieces(videos):
    source = {"name": "video_folder", "root": str(videos), "seconds": 1.0, "validation": 0.0}
    asked = asked_again(source)
    result = asked(state())
    corpus = built().source(source, "source")
    # Pieces are half a second, the clips of training.
    assert set(asked._windows.pieces_of_record) == {2}
    expected = []
    for record in range(len(corpus)):
        for caption in corpus[record].captions[:2]:
            span = (max(0.0, caption.start), min(1.0, caption.end))
            if span[0] < span[1] and span != (0.0, 1.0):
                expected.append(span)
    assert result["queries/caption"] == len(expected) > 0
    assert "queries/phrase" not in result
    whole = [end - start for start, end in expected]
    assert result["whole_window/caption/mean_iou"] == pytest.approx(np.mean(whole))
    first, second = (asked._windows[n].video for n in (0, 1))
    assert isinstance(first, Stretch)
    assert (first.start, first.seconds) == (corpus[0].video.start, 0.5)
    assert second.start == pytest.approx(first.start + 0.5)
    assert asked.by_query["attention/caption/iou"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"thresholds": (0.2, 0.5)},
            r"thresholds=\(0\.2, 0\.5\): one of them is chosen on tuning_source",
        ),
        ({"tuning_source": SOURCE}, "tuning_source equals source: the threshold would be"),
        (
            {"pair": "audio_text"},
            r"grounding: .* without a term on audio_text; it has video",
        ),
        ({"term": "none"}, r"grounding: term='none' is no term on video_text"),
        ({"source": {**TUNING, "noise": 1.0}}, r"grounding\.source: no phrase or caption of 'narr"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        bound(**options)


def test_a_single_threshold_is_chosen_on_nothing():
    asked = bound(tuning_source=TUNING)
    assert asked._tuning is None
    assert asked.protocol["threshold_chosen_by"] == "nothing"


def test_the_shipped_protocol_does_not_choose_on_what_it_measures():
    get_config = importlib.import_module("configs.eval.grounding").get_config
    with pytest.raises(ConfigError, match="split='validation' holds the clips on which"):
        get_config("corpus=narrated_shapes,split=validation,noise=0.5")


def test_the_shipped_protocol_has_other_clips_to_choose_on():
    get_config = importlib.import_module("configs.eval.grounding").get_config
    entry = configs.plain(get_config("corpus=narrated_shapes,clips=8"))
    assert (entry["source"]["split"], entry["tuning_source"]["split"]) == (
        "retrieval",
        "validation",
    )
    assert len(entry["thresholds"]) > 1
    components.build("eval", entry, key="grounding")
    folder = get_config("corpus=video_folder,root=x,seconds=60.0")
    assert (folder.source.split, folder.tuning_source.split) == ("validation", "train")
    assert folder.tuning_source.seconds == 60
