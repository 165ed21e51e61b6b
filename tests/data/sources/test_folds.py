import pickle

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.opening import open_source
from fgmm.data.sources import folds
from fgmm.data.stream import order
from tests.data import corpora_fixture

COLOURS = {"name": "tests.eval.labelled_fixture", "recordings": 30, "groups": 10, "windows": 2}


def opened(take, label="colour", source=COLOURS, **options):
    return folds.Source(source=source, label=label, take=take, folds=5, **options)


def test_folds_hold_every_labelled_clip_once_and_keep_groups_together():
    source = {**COLOURS, "unlabelled": (4, 5, 9)}
    parts = [opened((number,), source=source) for number in range(1, 6)]
    clips = [[part[i] for i in range(len(part))] for part in parts]
    groups = [{clip.group for clip in of_part} for of_part in clips]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    rest = opened((2, 3, 4, 5), source=source)
    assert len(rest) + len(parts[0]) == sum(map(len, parts)) == 57
    assert {rest[i].group for i in range(len(rest))} == set.union(*groups[1:])
    assert rest.report == {"malformed_line": 2, "no_label": 3}
    assert rest.classes == parts[0].classes
    again = pickle.loads(pickle.dumps(rest))
    every = range(len(rest))
    assert [again[i].clip_id for i in every] == [rest[i].clip_id for i in every]


def test_they_are_those_of_the_linear_probe():
    """With the same number and seed, whatever the windows."""
    from fgmm.data.folds import drawn_folds, labelled_records

    found = labelled_records(open_source(COLOURS, "source", 2.0), "colour", key="source")
    fold = drawn_folds(found.labels, found.groups, 5, 3, name="probe")
    names = {name for name, of in zip(found.names, fold, strict=True) if of == 1}
    part = opened((2,), source={**COLOURS, "windows": 3}, seed=3)
    assert {part[i].clip_id for i in range(len(part))} == names


def test_a_window_is_drawn_where_the_corpus_draws(tmp_path):
    corpora_fixture.write_esc50(tmp_path)
    source = {"name": "esc50", "root": str(tmp_path), "seconds": 0.1}
    drawing = opened((1, 2), "sound", {**source, "windows": 0})
    rng = np.random.default_rng(0)
    starts = {drawing.draw(0, rng).audio.__self__.start for _ in range(3)}
    assert len(starts) == 3
    still = opened((1, 2), "sound", source)
    assert not hasattr(still, "draw")
    assert len(still) == len(drawing)
    assert still[0].audio.__self__.start == drawing[0].audio.__self__.start


@pytest.mark.parametrize(
    ("take", "options", "message"),
    [
        ((6,), {}, r"take=\(6,\) names a fold above folds=5"),
        ((0,), {}, r"take=\(0,\) must be at least 1"),
        ((), {}, r"take=\(\) must hold at least one"),
        (
            (1,),
            {"label": "sound"},
            r"label='sound' is unknown to the source; it has: colour",
        ),
        ((1,), {"source": {**COLOURS, "groups": 4}}, r"folds: folds=5 is more than the 4 groups"),
    ],
)
def test_wrong_options_are_named(take, options, message):
    with pytest.raises(ConfigError, match=message):
        opened(take, **options)


def test_the_parts_of_a_mixture_keep_their_weights():
    few = {**COLOURS, "groups": 0, "windows": 1}
    sources = {
        "a": {**few, "recordings": 15, "weight": 3.0},
        "b": {**few, "recordings": 30, "weight": 1.0},
    }
    mixed = {"name": "mixture", "sources": sources}
    taken = opened((1, 2), source=mixed)
    assert [part.weight for part in taken.parts] == [3.0, 1.0]
    a, b = (part.clips for part in taken.parts)
    assert (a.start, a.stop, b.stop) == (0, b.start, len(taken))
    assert {taken[i].clip_id[0] for i in a} == {"a"}
    assert {taken[i].clip_id[0] for i in b} == {"b"}
    drawn = order(taken, seed=0)
    assert sum(int(drawn[i]) in a for i in range(80)) == 60
    # A part without a clip has no share.
    unlabelled = {**sources["a"], "unlabelled": tuple(range(15))}
    lone = opened((1,), source={**mixed, "sources": {**sources, "a": unlabelled}})
    assert [part.clips for part in lone.parts] == [range(len(lone))]
    assert not hasattr(opened((1,)), "parts")
