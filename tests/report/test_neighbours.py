"""What finds what, from scores that are given."""

import types

import numpy as np
import pytest

from fgmm.data.schema import Clip
from fgmm.report import neighbours
from fgmm.report.gallery import Gallery, Scoring, pair_of, side_of, spread

CAPTIONS = ["a dog", "a cat", "A  dog", "", "a bird"]


class Given(Gallery):
    """A gallery of five clips, of which the last one has no picture."""

    directions = (("text", "video"),)

    def __init__(self, scores):
        self.chosen = [Clip(f"clip {i}") for i in range(5)]
        self.captions = CAPTIONS
        self.pictures = [np.full((8, 8, 3), 50 * i, np.uint8) for i in range(4)] + [None]
        self.sounds = [None] * 5
        self._given = scores

    def scores(self, queries, items):
        return self._given

    def there(self, modality):
        return {
            "text": np.array([True, True, True, False, True]),
            "video": np.array([True, True, True, True, False]),
        }[modality]


def found(scores, **options):
    (direction,) = neighbours.directions(Given(np.array(scores, np.float32)), **options)
    return direction


SCORES = [
    [1, 3, 2, 0, 0],
    [5, 1, 4, 0, 0],
    [0, 9, 1, 0, 0],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
]


def test_ranks_are_among_clips_that_have_both():
    direction = found(SCORES, examples=3)
    assert direction.gallery == 3
    assert [query.item.caption for query in direction.examples] == ["a dog", "a cat", "A  dog"]
    # Clips 0 and 2 say the same, so the one at place 2 is right for both.
    assert [query.rank for query in direction.examples] == [2, 3, 2]
    first = direction.examples[0]
    assert [(item.clip_id, right) for item, right in first.found] == [
        ("clip 1", False),
        ("clip 2", True),
        ("clip 0", True),
    ]
    assert first.answer is None
    assert first.item.picture == ""
    assert first.found[0][0].picture.startswith("data:image/webp;base64,")


def test_the_hardest_come_first_and_first_places_are_no_failures():
    direction = found(SCORES, hardest=2)
    assert [query.item.clip_id for query in direction.hardest] == ["clip 1", "clip 0"]
    best = np.eye(5, dtype=np.float32)
    assert found(best).hardest == []


def test_the_right_answer_is_shown_where_it_was_not_found(monkeypatch):
    monkeypatch.setattr(neighbours, "_SHOWN", 2)
    (hardest,) = found(SCORES, hardest=1).hardest
    assert [item.clip_id for item, _ in hardest.found] == ["clip 0", "clip 2"]
    assert hardest.answer.clip_id == "clip 1"


def test_ties_count_against_the_model():
    assert found(np.zeros((5, 5))).examples[1].rank == 3


@pytest.mark.parametrize(
    ("one", "other", "pair"),
    [("text", "video", "video_text"), ("audio", "video", "video_audio"), ("video", "video", "")],
)
def test_pairs_of_modalities(one, other, pair):
    assert pair_of(one, other) == pair


def test_directions_are_those_of_pairs_that_the_space_compares():
    entries = (("video_text", "vt"), ("audio_text", "vt"), ("video_audio", "va"))
    objective = types.SimpleNamespace(
        compared={pair: types.SimpleNamespace(pair=pair, space=space) for pair, space in entries}
    )
    gallery = object.__new__(Gallery)
    gallery.space, gallery.experiment = "vt", types.SimpleNamespace(objective=objective)
    assert {frozenset(direction) for direction in gallery.directions} == {
        frozenset({"video", "text"}),
        frozenset({"audio", "text"}),
    }
    scoring = object.__new__(Scoring)
    scoring._experiment, scoring._space, scoring._functions = gallery.experiment, "vt", {}
    assert scoring.of("audio", "video") is None
    expected = "the coarse score; no term compares audio with video"
    assert scoring.in_words("audio", "video") == expected
    assert scoring.in_words("video", "video") == "the coarse score"


def test_audio_is_its_segments_beside_video_alone():
    assert side_of("audio", "video") == "audio_segments"
    assert side_of("audio", "text") == "audio"
    assert side_of("video", "audio") == "video"


def test_a_spread_is_even():
    assert spread(10, 3) == [0, 3, 6]
    assert spread(2, 5) == [0, 1]
