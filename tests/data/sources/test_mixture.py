import collections
import itertools
import json
import math
import pickle

import numpy as np
import pytest
from absl import flags

from configs import quickstart
from fgmm import components
from fgmm import config as configs
from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.schema import BatchShape, Clip
from fgmm.data.sources import mixture
from fgmm.data.stream import order, training_batches
from fgmm.experiment import build as experiments
from fgmm.train import loop
from tests.shrunken import shrunken

NUMBERED = "tests.data.numbered_source"
# Frames and sound of a few numbers, no text.
SHAPE = BatchShape(
    frames=1, height=2, width=2, samples=2, sample_rate=8000, captions=1, phrases=1, tokens=0
)
# Two clips of three are of b, in the middle of the parts by their names.
SOURCES = {
    "b": {"name": NUMBERED, "clips": 70, "audio": False, "left": 2, "weight": 2.0},
    "a": {"name": NUMBERED, "clips": 50, "video": False, "weight": 0.5},
    "c": {"name": NUMBERED, "clips": 60, "left": 1, "weight": 0.5},
}
BOUNDS = {"a": range(50), "b": range(50, 120), "c": range(120, 180)}


def opened(**sources):
    return mixture.Source(sources=sources or SOURCES)


def take(count, *, source=None, **options):
    assembler = pipeline.Assembler(source or opened(), SHAPE, None, "function_words")
    batches = training_batches(assembler, **{"seed": 3, "batch_size": 8, **options})
    return list(itertools.islice(batches, count))


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def records(batches):
    return np.concatenate([batch["record"] for batch in batches])


def test_it_is_the_clips_of_all_parts_in_the_order_of_their_names():
    source = opened()
    assert len(source) == 180
    assert {part.clips for part in source.parts} == set(BOUNDS.values())
    names = [clip.clip_id for clip in source]
    assert names == [f"{name}/{i}" for name in "abc" for i in range(SOURCES[name]["clips"])]
    assert source[50].group == "b/group0"
    assert source[-1].clip_id == "c/59"
    assert source.report == {"missing_file": 3}
    assert source.classes == {"number": ("even", "odd")}
    with pytest.raises(IndexError):
        source[180]
    assert pickle.loads(pickle.dumps(source))[60] == source[60]


def test_what_is_drawn_of_a_part_is_drawn_of_the_mixture(monkeypatch):
    assert not hasattr(opened(), "draw")
    numbered = components.find("data.sources", NUMBERED)

    def draw(self, index, rng):
        return Clip(clip_id=f"{index} {rng.integers(100)}")

    monkeypatch.setattr(numbered, "draw", draw, raising=False)
    source = pickle.loads(pickle.dumps(opened()))
    rng = np.random.default_rng(0)
    assert source.draw(51, rng).clip_id == f"b/1 {np.random.default_rng(0).integers(100)}"


@pytest.mark.parametrize("weights", [(2.0, 0.5, 0.5), (0.1, 0.3, 0.7)])
def test_shares_are_those_of_the_weights(weights):
    sources = {n: {**SOURCES[n], "weight": w} for n, w in zip("abc", weights, strict=True)}
    indices = order(opened(**sources), seed=3)
    drawn = np.array([indices[i] for i in range(2000)])
    for name, weight in zip("abc", weights, strict=True):
        within = BOUNDS[name]
        share = np.mean((drawn >= within.start) & (drawn < within.stop))
        assert share == pytest.approx(weight / sum(weights), abs=0.001)


def test_no_clip_of_a_part_comes_again_before_all_others_and_then_in_another_order():
    indices = order(opened(), seed=3)
    drawn = np.array([indices[i] for i in range(1000)])
    for within in BOUNDS.values():
        own = drawn[(drawn >= within.start) & (drawn < within.stop)]
        epochs = [own[i : i + len(within)] for i in range(0, len(own), len(within))]
        orders = [tuple(epoch.tolist()) for epoch in epochs[:-1]]
        assert len(set(orders)) == len(orders) >= 2
        for epoch in orders:
            assert sorted(epoch) == list(within)


def test_batches_are_a_function_of_seed_and_step_on_any_number_of_processes_and_workers():
    flags.FLAGS.mark_as_parsed()  # which grain's workers insist on
    whole = take(9)
    assert_equal(take(9), whole)
    for start in (1, 4, 8):
        assert_equal(take(9 - start, start_step=start), whole[start:])
    for processes in (2, 4):
        parts = [take(9, process=i, processes=processes) for i in range(processes)]
        together = [
            {name: np.concatenate([part[name] for part in step]) for name in whole[0]}
            for step in zip(*parts, strict=True)
        ]
        assert_equal(together, whole)
    for workers in (1, 2):
        assert_equal(take(4, workers=workers, start_step=3), whole[3:7])
    assert (records(take(9, seed=4)) != records(whole)).any()


def test_what_a_part_lacks_is_masked():
    for batch in take(6):
        for row, record in enumerate(batch["record"]):
            assert batch["audio_mask"][row] == (record not in BOUNDS["b"])
            assert batch["video_mask"][row] == (record not in BOUNDS["a"])
    problems = pipeline.count_problems(np.concatenate([b["problems"] for b in take(6)]))
    assert problems == {"no_audio": 32, "no_video": 8}


@pytest.mark.long
def test_sound_alone_beside_pictures_alone_trains_a_step(tmp_path):
    config = shrunken(quickstart.get_config("fine=none"))
    config.data.source = {
        "name": "mixture",
        "sources": {
            "heard": {"name": NUMBERED, "clips": 6, "video": False},
            "seen": {"name": NUMBERED, "clips": 20, "audio": False, "weight": 3.0},
        },
    }
    config.evals, config.checkpoint.best_metric = {}, ""
    config = components.complete(config)
    experiment = experiments.build(config)
    source = experiment.source(experiment.config.data.source, "data.source")
    state = loop.train(experiment, source, tmp_path)
    assert state.step == 1
    (line,) = [json.loads(text) for text in (tmp_path / "metrics.jsonl").open()]
    assert math.isfinite(line["loss"])
    assert line["skipped"] == 0
    assert (line["bad_input/no_video"], line["bad_input/no_audio"]) == (2, 6)


def test_an_evaluation_sees_every_clip_once():
    assembler = pipeline.Assembler(opened(), SHAPE, None, "function_words")
    seen = [b["record"][:n] for b, n in pipeline.evaluation_batches(assembler, 8)]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(180))


def test_kinds_of_label_that_parts_name_differently_are_left_out(monkeypatch):
    other = {"name": "narrated_shapes", "split": "motion", "clips": 2}
    source = opened(shapes=other, **SOURCES)
    assert set(source.classes) == {"number", "motion", "sound", "shapes"}
    numbered = components.find("data.sources", NUMBERED)
    monkeypatch.setattr(numbered, "classes", {"motion": ("one", "two")})
    assert set(opened(shapes=other, **SOURCES).classes) == {"sound", "shapes"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, r"sources\.a\.weight=0\.0 must be above 0"),
        ({"weight": -1}, r"sources\.a\.weight=-1 must be"),
        ({"weight": math.nan}, r"weight=nan must be finite"),
        ({"weight": math.inf}, r"weight=inf must be finite"),
        ({"weight": "1"}, r"weight='1' is not of type float"),
        ({"weight": True}, r"weight=True is not of type float"),
        ({"name": "nope"}, r"sources\.a\.name='nope' is unknown"),
        ({"name": "mixture"}, r"sources\.a\.name='mixture' cannot be a part"),
        ({"sound": 1}, r"sources\.a\.sound=1 is unknown; allowed: audio, clips"),
        ({"clips": 0}, r"sources\.a has no clip"),
    ],
)
def test_what_is_wrong_with_a_part_is_one_line(change, message):
    entry = {"name": "mixture", "sources": {**SOURCES, "a": {**SOURCES["a"], **change}}}
    with pytest.raises(ConfigError, match=message) as error:
        components.build("data.sources", entry, key="data.source")
    assert len(str(error.value).splitlines()) == 1


def test_a_mixture_of_nothing_is_refused():
    for sources, message in [
        ({}, "sources is empty"),
        ({"a": "flickr8k"}, "sources.a='flickr8k' must be a dict"),
    ]:
        with pytest.raises(ConfigError, match=message):
            components.build("data.sources", {"name": "mixture", "sources": sources}, key="data")


def test_the_order_of_keys_does_not_matter():
    config = configs.plain({"name": "mixture", "sources": dict(sorted(SOURCES.items()))})
    other = components.build("data.sources", config, key="data.source")
    assert_equal(take(3, source=other), take(3))
    assert collections.Counter(part.weight for part in other.parts) == {2.0: 1, 0.5: 2}


def test_a_part_that_holds_a_mixture_is_refused():
    inner = {"name": "mixture", "sources": SOURCES}
    wrong = {"name": "wrong_captions", "share": 0.0, "source": inner}
    with pytest.raises(ConfigError, match=r"sources\.a holds a mixture, whose weights would"):
        opened(a=wrong, c=SOURCES["c"])
