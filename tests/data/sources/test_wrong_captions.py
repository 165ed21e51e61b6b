import collections

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.sources.wrong_captions import Source
from tests.data.features_fixture import write_features

CLIPS = 200


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    root = write_features(tmp_path_factory.mktemp("wrong") / "features", CLIPS, shard_clips=64)
    return {"name": "features", "root": str(root)}


def numbers(clip):
    """The clips to which captions belong."""
    return [int(caption.text.rstrip(".").rpartition(" ")[2]) for caption in clip.captions]


def wrong(source):
    """Which captions belong to other clips, [clips, captions]."""
    return np.array([[n != i for n in numbers(source[i])] for i in range(len(source))])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_the_share_of_captions_that_belong_to_other_clips(entry, share):
    source = Source(source=entry, share=share, seed=1)
    found = wrong(source)
    assert found.shape == (CLIPS, 2)
    # Five standard deviations.
    assert abs(found.mean() - share) <= 5 * np.sqrt(share * (1 - share) / found.size)
    assert source[0].clip_id == "image0.jpg"
    assert source.feature_shape == (1, 3, 3, 8)
    assert source.report == {"malformed_line": 1}
    assert source.classes == {"number": ("even", "odd")}


def test_wrong_captions_come_from_all_clips_and_stay(entry):
    source = Source(source=entry, share=1.0, seed=0)
    texts = [[caption.text for caption in source[i].captions] for i in range(CLIPS)]
    again = Source(source=entry, share=1.0, seed=0)
    assert texts == [[c.text for c in again[i].captions] for i in reversed(range(CLIPS))][::-1]
    other = Source(source=entry, share=1.0, seed=1)
    assert texts != [[caption.text for caption in other[i].captions] for i in range(CLIPS)]
    drawn = collections.Counter(n for i in range(CLIPS) for n in numbers(source[i]))
    # Of 400 draws of 200, about 1 - exp(-2) of all are drawn.
    assert 155 < len(drawn) < 190
    assert max(drawn.values()) < 10


def test_clips_that_are_wrong_at_a_small_share_are_wrong_at_a_larger_one(entry):
    few, many = (wrong(Source(source=entry, share=share)) for share in (0.25, 0.75))
    assert (few <= many).all()


def test_the_fingerprint_is_that_of_the_corpus(entry):
    source = Source(source=entry, share=0.5)
    assert source.fingerprint() == fingerprint.of_source(source._source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, r"share=1.5 must be from 0 to 1"),
        ({"share": 0.5, "seed": -1}, r"seed=-1 must be from 0 to"),
        ({"share": 0.5, "source": {"name": "gone"}}, r"source.name='gone' is unknown"),
    ],
)
def test_wrong_options_are_named(entry, options, message):
    with pytest.raises(ConfigError, match=message):
        Source(**{"source": entry, **options})


def test_one_clip_is_too_few(tmp_path):
    root = write_features(tmp_path / "one", 1)
    with pytest.raises(ConfigError, match=r"source has 1 clips; two are needed"):
        Source(source={"name": "features", "root": str(root)}, share=0.5)
