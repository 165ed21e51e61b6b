import dataclasses
import pickle

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.opening import open_source
from fgmm.data.pipeline import Assembler
from fgmm.data.schema import BadInput, BatchShape, Clip
from fgmm.data.sources.mixture import Source as Mixture
from fgmm.data.sources.slideshow import Source, _Shown
from fgmm.data.sources.wrong_captions import Source as WrongCaptions
from tests.data.features_fixture import CAPTIONS, feature_map, write_features
from tests.data.video_fixture import write_howto100m

CLIPS, SHAPE = 23, (1, 3, 3, 8)


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    root = write_features(tmp_path_factory.mktemp("slideshow") / "features", CLIPS, SHAPE)
    return {"name": "features", "root": str(root)}


def members(clip):
    """The indices of the clips of a group."""
    names = clip.clip_id.split("+")
    return [int(name.removeprefix("image").removesuffix(".jpg")) for name in names]


def test_groups_share_no_clip_and_what_is_left_over_is_in_none(entry):
    source = Source(source=entry, shown=4, seed=1)
    assert len(source) == 5
    assert source.feature_shape == (4, 3, 3, 8)
    assert source.report == {"malformed_line": 1}
    found = [members(source[i]) for i in range(5)]
    assert all(len(group) == 4 for group in found)
    assert len({i for group in found for i in group}) == 20
    again = pickle.loads(pickle.dumps(Source(source=entry, shown=4, seed=1)))
    assert [members(again[i]) for i in range(5)] == found
    other = Source(source=entry, shown=4, seed=2)
    assert [members(other[i]) for i in range(5)] != found
    assert members(source[-1]) == found[-1]
    with pytest.raises(IndexError):
        source[5]


def test_pictures_and_texts_are_in_the_same_order(entry):
    source = Source(source=entry, shown=4)
    for clip in (source[i] for i in range(len(source))):
        group = members(clip)
        texts = [f"{text[:-1]}, number {i}." for i in group for text in CAPTIONS]
        assert [caption.text for caption in clip.captions] == texts
        out = np.zeros((4, *SHAPE[1:]), np.float16)
        if 1 in group:
            assert "unreadable_video" not in clip.problems, "it is found when pictures are read"
            with pytest.raises(BadInput, match="unreadable_video"):
                clip.video.fill(out)
            continue
        clip.video.fill(out)
        expected = np.concatenate([feature_map(i, SHAPE) for i in group])
        np.testing.assert_array_equal(out, expected)
        with pytest.raises(BadInput, match="features are stored"):
            clip.video.frames(4, 32)


@pytest.mark.parametrize(("frames", "parts"), [(6, (2, 2, 2)), (4, (2, 1, 1))])
def test_pixels_share_the_frames(frames, parts):
    """Encoded pictures, frames and other writers, of other sizes."""
    grey = [np.full((2, 10, 12, 3), value, np.uint8) for value in (10, 20, 30)]

    class Writer:
        def fill(self, out, resizing):
            out[...] = 30

        def frames(self, count, size):
            return grey[2][:count]

    shown = _Shown((("a", lambda: grey[0]), ("b", lambda: grey[1]), ("c", Writer())))
    out = np.zeros((frames, 8, 8, 3), np.uint8)
    shown.fill(out)
    expected = np.repeat((10, 20, 30), parts)
    np.testing.assert_array_equal(out, np.broadcast_to(expected[:, None, None, None], out.shape))
    seen = shown.frames(2, 8)
    assert seen.shape == (2, 8, 8, 3)
    assert seen[:, 0, 0, 0].tolist() == [10, 20]
    assert shown.frames(9, 8)[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_a_clip_without_pictures_is_named():
    with pytest.raises(BadInput, match="no_video: b"):
        _Shown((("a", lambda: np.zeros((1, 8, 8, 3), np.uint8)), ("b", Clip("b").video))).fill(
            np.zeros((2, 8, 8, 3), np.uint8)
        )


def test_the_fingerprint_is_that_of_the_corpus(entry, tmp_path):
    found = Source(source=entry, shown=2).fingerprint()
    assert found == fingerprint.of_source(open_source(entry, "source", 2.0))
    other = {"name": "features", "root": str(write_features(tmp_path / "other", 9, SHAPE))}
    assert found != Source(source=other, shown=2).fingerprint()


def test_a_source_that_draws_draws_each_clip(tmp_path):
    entry = {"name": "howto100m", "root": str(write_howto100m(tmp_path / "howto100m", 4))}
    source = Source(source=entry, shown=2)
    inner = open_source(entry, "source", 2.0)
    drawn = source.draw(0, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    clips = [inner.draw(int(i), rng) for i in source._groups[0]]
    assert drawn.clip_id == "+".join(clip.clip_id for clip in clips)
    assert [c.text for c in drawn.captions] == [c.text for clip in clips for c in clip.captions]


def test_a_batch_has_room_for_all_pictures(entry):
    shape = BatchShape(
        frames=2, height=3, width=3, samples=0, sample_rate=1, captions=1, phrases=1, tokens=0
    )
    pixels = dataclasses.replace(shape, height=8, width=8)
    shapes = {"name": "narrated_shapes", "clips": 8}
    pairs = {"name": "slideshow", "shown": 2, "source": shapes}
    shows = {"name": "slideshow", "shown": 4, "source": shapes}
    for source in (
        Source(source=shapes, shown=4),
        Source(source=pairs, shown=2),
        WrongCaptions(source=shows, share=0.5),
        Mixture(sources={"one": shapes, "two": pairs, "four": shows}),
    ):
        with pytest.raises(ConfigError, match=r"data\.frames=2 has no room for the 4 pictures"):
            Assembler(source, pixels, None, "function_words")
    source = Source(source=shapes, shown=2)
    assert Assembler(source, pixels, None, "function_words")(0)["video_mask"]


def test_parts_with_weights_are_refused(entry):
    mixture = {"name": "mixture", "sources": {"one": {**entry, "weight": 1.0}}}
    with pytest.raises(ConfigError, match="make each part a slideshow"):
        Source(source=mixture, shown=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shown": 1}, "shown=1 must be at least 2"),
        ({"shown": 24}, "shown=24 clips are to be one, and source has 23; lower shown"),
        ({"shown": 2, "source": {"name": "gone"}}, "source.name='gone' is unknown"),
    ],
)
def test_wrong_options_are_named(entry, options, message):
    with pytest.raises(ConfigError, match=message):
        Source(**{"source": entry, **options})
