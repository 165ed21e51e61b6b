import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmm.config import ConfigError
from fgmm.data import grounding
from fgmm.data.media import decode
from fgmm.data.media.stretch import Stretch
from fgmm.data.schema import BatchShape, Caption, Clip, Grounding, Resizing
from fgmm.data.sources.narrated_shapes import Source
from fgmm.data.text import phrases


def shape(**changes) -> BatchShape:
    sizes = {
        "frames": 4,
        "height": 32,
        "width": 32,
        "samples": 0,
        "sample_rate": 8000,
        "captions": 4,
        "phrases": 8,
        "tokens": 48,
    }
    return BatchShape(**{**sizes, **changes})


def box(*edges, frames=4):
    return np.tile(np.array(edges, float), (frames, 1))


def clip(captions, spans, boxes=None, active=None):
    boxes = box(0.1, 0.2, 0.3, 0.4) if boxes is None else boxes
    active = np.ones(len(boxes), bool) if active is None else active
    return Clip(
        "clip",
        captions=tuple(Caption(text) for text in captions),
        grounding=tuple(Grounding(*span, boxes, active) for span in spans),
    )


def test_a_span_belongs_to_the_phrase_that_holds_most_of_it():
    text = "a big white star drifting to the left"
    assert phrases.function_words(text) == [(0, 25), (26, 37)]
    found = grounding.references(
        clip([" ", text], [(1, 17, 37)]), (32, 32), shape(), phrases.function_words
    )
    # "drifting to the left" has 8 characters in the first phrase and 11 in the second; the caption
    # without words before it has no place in the batch.
    assert [(r.caption, r.phrase) for r in found] == [(0, 1)]


def test_a_phrase_refers_to_an_object_once():
    text = "the star moves left"
    active = np.array([False, True, False, True])
    name, action = (0, 0, 8), (0, 9, 19)
    both = clip([text], [name])
    both = Clip("", captions=both.captions, grounding=(
        *both.grounding,
        *clip([text], [action], active=active).grounding,
        *clip([text], [action], boxes=box(0.5, 0.5, 0.9, 0.9), active=active).grounding,
    ))  # fmt: skip
    star, other = grounding.references(both, (32, 32), shape(), phrases.whole)
    assert star.names_object
    assert not other.names_object
    assert other.active.tolist() == active.tolist()
    # That it is always true of the two frames of this batch makes no name of an action.
    _, other = grounding.references(both, (32, 32), shape(frames=2), phrases.whole)
    assert not other.names_object


def test_captions_that_the_batch_lacks_do_not_count():
    spoken = clip(["a star", "a ball", "a ring"], [(0, 0, 6), (2, 0, 6)])
    found = grounding.references(spoken, (32, 32), shape(captions=2), phrases.whole)
    assert [r.caption for r in found] == [0]


def test_phrases_for_which_there_is_no_room_do_not_count():
    text = "on a mat, in a box, at a door"
    spoken = clip([text], [(0, 11, 18), (0, 20, 29)])
    (found,) = grounding.references(spoken, (32, 32), shape(phrases=2), phrases.function_words)
    assert found.phrase == 1
    found = grounding.references(spoken, (32, 32), shape(phrases=3), phrases.function_words)
    assert [reference.phrase for reference in found] == [1, 2]


@given(available=st.integers(1, 40), count=st.integers(1, 20))
def test_frames_are_those_of_the_batch(available, count):
    numbered = np.zeros((available, 1, 1, 3), np.uint8)
    numbered[:, 0, 0, 0] = np.arange(available)
    expected = decode.fit_frames(numbered, count, 1, 1)[:, 0, 0, 0]
    boxes = np.tile(np.arange(available, dtype=float)[:, None], (1, 4))
    active = np.arange(available) % 3 == 0
    spoken = clip(["a star"], [(0, 0, 6)], boxes, active)
    (found,) = grounding.references(
        spoken, (1, 1), shape(frames=count, height=1, width=1), phrases.whole
    )
    assert found.boxes[:, 0].tolist() == expected.tolist()
    assert found.active.tolist() == active[expected].tolist()


@pytest.mark.parametrize("fit", ["crop", "cover", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (40, 40)])
def test_boxes_follow_the_picture_to_its_size(height, width, fit):
    frames = np.zeros((4, height, width, 3), np.uint8)
    top, left, bottom, right = 12, 24, 20, 36
    if height > width:
        top, left, bottom, right = left, top, right, bottom
    frames[:, top:bottom, left:right] = 255
    resizing = Resizing(fit)
    fitted = decode.fit_frames(frames, 4, 20, 20, resizing=resizing)[0, ..., 0] > 127
    edges = box(top / height, left / width, bottom / height, right / width)
    spoken = clip(["a star"], [(0, 0, 6)], edges)
    (found,) = grounding.references(
        spoken, (height, width), shape(height=20, width=20, resizing=resizing), phrases.whole
    )
    assert (grounding.inside(found, 20, 20)[0] == fitted).all()
    cut = (max(1, height / width), max(1, width / height))
    assert found.period == ((1, 1) if fit == "stretch" else cut)


def test_cells_in_the_boxes_are_where_the_pixels_of_the_object_are():
    """Boxes that reach over an edge go on at the opposite one, as the picture does."""
    source = Source(split="retrieval", clips=12, size=32, frames=4, distractors=0, objects=(1, 1))
    wrapped = 0
    for record in range(len(source)):
        found = grounding.references(source[record], (32, 32), shape(), phrases.whole)
        (mover,) = {r.boxes.tobytes(): r for r in found}.values()
        # The background is the same in all frames, so what changes is the object.
        video = source[record].video().astype(int)
        changed = np.abs(video - np.median(video, axis=0)).sum(axis=-1) > 150
        boxed = grounding.inside(mover, 32, 32)
        assert (changed <= boxed.any(axis=0)).all()
        wrapped += (mover.boxes < 0).any() or (mover.boxes > 1).any()
    assert wrapped > 3


def test_a_cell_of_time_holds_what_is_true_of_any_of_its_frames():
    frames = np.array([True, False, False, False, False, False, False, True])
    assert grounding.over_time(frames, 4).tolist() == [True, False, False, True]
    assert grounding.over_time(frames, 8).tolist() == frames.tolist()
    assert grounding.over_time(frames, 1).tolist() == [True]
    # The middle one of three parts of eight frames covers parts of frames 3 to 6.
    for frame, expected in ((1, [1, 0, 0]), (2, [1, 1, 0]), (4, [0, 1, 0]), (5, [0, 1, 1])):
        alone = np.arange(8) == frame
        assert grounding.over_time(alone, 3).tolist() == [bool(x) for x in expected]
    assert grounding.cell_of_frame(8, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert grounding.cell_of_frame(8, 3).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert grounding.cell_of_frame(1, 1).tolist() == [0]


def test_times_are_those_of_phrases_that_are_true_for_a_while():
    text = "a star moves left"
    runs = np.array([False, True, True, False])
    name, action = (0, 2, 6), (0, 7, 17)
    still = clip([text], [name, action])
    (found,) = grounding.times_of_phrases(still, shape(), phrases.whole)
    assert found == (0, 0, ((0.0, 1.0),))
    assert grounding.times_of_told([found]) == [(0, -1, ((0.0, 1.0),))]
    other = clip([text], [action], boxes=box(0.5, 0.5, 0.9, 0.9), active=~runs)
    moving = clip([" ", text], [(1, 7, 17)], active=runs)
    (found,) = grounding.times_of_phrases(moving, shape(), phrases.whole)
    assert found == (0, 0, ((0.25, 0.75),))
    both = Clip("", captions=other.captions, grounding=(
        *clip([text], [action], active=runs).grounding, *other.grounding,
    ))  # fmt: skip
    (found,) = grounding.times_of_phrases(both, shape(), phrases.whole)
    assert found.spans == ((0.25, 0.75), (0.0, 0.25), (0.75, 1.0))
    name = found._replace(spans=((0.0, 1.0),))
    later = found._replace(spans=((0.5, 0.75),))
    assert grounding.times_of_told([name, later]) == [(0, -1, ((0.5, 0.75),))]


def test_times_of_captions_are_within_their_window():
    spoken = (
        Caption("before", -2.0, -1.0),
        Caption("into it", -1.0, 1.0),
        Caption(" ", 1.0, 2.0),
        Caption("all of it", -1.0, 9.0),
        Caption("at its end", 3.0, 8.0),
        Caption("no end", 1.0),
        Caption("one too many", 1.0, 2.0),
    )
    found = grounding.times_of_captions(Clip("", captions=spoken), 4.0, 5)
    assert found == [(1, -1, ((0.0, 0.25),)), (3, -1, ((0.75, 1.0),)), (4, -1, ((0.25, 1.0),))]


@pytest.mark.parametrize(
    ("video", "kind"),
    [(b"", "an encoded image"), (Stretch(b"", 0.0, 1.0), "Stretch"), (None, "NoneType")],
)
def test_boxes_need_frames(video, kind):
    grounded = dataclasses.replace(clip(["a star"], [(0, 0, 6)]), video=video)
    with pytest.raises(ConfigError, match=f"clip 'clip': boxes in {kind} are not supported"):
        grounding.of_clip(grounded, shape(), phrases.whole)
