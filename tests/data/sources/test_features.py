import dataclasses
import json
import pickle

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.pipeline import Assembler, Draw
from fgmm.data.schema import REASONS, BadInput, BatchShape, Caption, Clip
from fgmm.data.sources import mixture
from fgmm.data.sources.features import Source
from fgmm.data.stream import training_batches
from tests.data.features_fixture import feature_map, write_features
from tests.data.numbered_source import Source as Numbered

SHAPE = BatchShape(
    frames=1,
    height=3,
    width=3,
    samples=0,
    sample_rate=8000,
    captions=1,
    phrases=2,
    tokens=0,
    features=8,
)


@pytest.fixture
def root(tmp_path):
    return write_features(tmp_path / "features", 10)


def assembler(source, **changes):
    return Assembler(source, dataclasses.replace(SHAPE, **changes), None, "function_words")


def test_clips_are_those_of_the_corpus_with_features_for_pictures(root):
    source = Source(root=str(root))
    assert len(source) == 10
    assert source.feature_shape == (1, 3, 3, 8)
    assert source.classes == {"number": ("even", "odd")}
    assert source.report == {"malformed_line": 1}
    for index in (0, 3, 4, 9):
        clip = source[index]
        assert clip.clip_id == f"image{index}.jpg"
        assert clip.captions[0] == Caption(f"A dog runs over the grass, number {index}.")
        assert (clip.labels, clip.group) == ({"number": index % 2}, f"group{index}")
        np.testing.assert_array_equal(clip.video.values, feature_map(index, (1, 3, 3, 8)))
    with pytest.raises(BadInput, match="no_video"):
        source[0].video.frames(1, 64)
    with pytest.raises(IndexError):
        source[10]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[7].video.values, source[7].video.values)


def test_a_part_of_the_corpus(root):
    part = Source(root=str(root), start=3, stop=8)
    assert [part[i].clip_id for i in range(len(part))] == [f"image{i}.jpg" for i in range(3, 8)]
    with pytest.raises(IndexError):
        part[5]
    rest = Source(root=str(root), start=8)
    assert [rest[i].clip_id for i in (0, 1)] == ["image8.jpg", "image9.jpg"]
    whole = Source(root=str(root))
    assert len({json.dumps(s.fingerprint()) for s in (part, rest, whole)}) == 3
    with pytest.raises(ConfigError, match="no clip from start=10 to stop=0; it has 10"):
        Source(root=str(root), start=10)


def test_a_batch_holds_the_features_as_they_are(root):
    batch = assembler(Source(root=str(root))).batch([*map(Draw, (4, 1, 0))])
    assert batch["video"].dtype == np.float16
    np.testing.assert_array_equal(batch["video"][0], feature_map(4, (1, 3, 3, 8)))
    np.testing.assert_array_equal(batch["video_mask"], [True, False, True])
    # What could not be read when features were computed is bad input now.
    assert not batch["video"][1].any()
    np.testing.assert_array_equal(batch["problems"], [0, 1 << REASONS.index("unreadable_video"), 0])


def test_training_goes_on_where_it_stopped(root):
    def batches(start, count):
        stream = training_batches(
            assembler(Source(root=str(root))), seed=3, batch_size=4, start_step=start
        )
        return [next(stream) for _ in range(count)]

    whole = batches(0, 6)
    for one, other in zip(whole[3:], batches(3, 3), strict=True):
        np.testing.assert_array_equal(one["record"], other["record"])
        np.testing.assert_array_equal(one["video"], other["video"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 0}, r"1 x 3 x 3 x 8, and a batch 1 x 3 x 3 x 0; set data.frames=1, .*=8"),
        ({"features": 16}, r"1 x 3 x 3 x 8, and a batch 1 x 3 x 3 x 16"),
        ({"height": 7}, r"1 x 3 x 3 x 8, and a batch 1 x 7 x 3 x 8"),
    ],
)
def test_a_batch_of_another_shape_is_refused(root, changes, message):
    with pytest.raises(ConfigError, match=message):
        assembler(Source(root=str(root)), **changes)


def test_pictures_are_no_features():
    with pytest.raises(ConfigError, match=r"data.features=8 needs a source of stored features"):
        assembler(Numbered(clips=3))


def test_a_mixture_has_features_of_one_shape(root, tmp_path):
    part = {"name": "features", "root": str(root)}
    other = {"name": "features", "root": str(write_features(tmp_path / "b", 3, (1, 2, 2, 8)))}
    mixed = mixture.Source(sources={"a": part, "b": part})
    assert mixed.feature_shape == (1, 3, 3, 8)
    assert len(mixed) == 20
    with pytest.raises(ConfigError, match=r"different shapes.*\(1, 2, 2, 8\), \(1, 3, 3, 8\)"):
        mixture.Source(sources={"a": part, "b": other})
    pictures = {"name": "tests.data.numbered_source", "clips": 3}
    with pytest.raises(ConfigError, match=r"or pictures beside them: \(1, 3, 3, 8\), None"):
        mixture.Source(sources={"a": part, "b": pictures})


def test_the_fingerprint_tells_the_weights(root):
    before = Source(root=str(root)).fingerprint()
    listing = json.loads((root / "features.json").read_text())
    listing["origin"] = {"weights": "others"}
    (root / "features.json").write_text(json.dumps(listing))
    now = Source(root=str(root)).fingerprint()
    assert fingerprint.difference(before, now) == (
        "10 clips then and now, but features of other weights or of another corpus"
    )


def test_a_folder_that_is_not_whole_is_refused(root, tmp_path):
    with pytest.raises(ConfigError, match=r"has no features.json; write features with"):
        Source(root=str(tmp_path))
    shard = root / "features-00001-of-00003.array_record"
    data = shard.read_bytes()
    for content in (b"", data[: len(data) // 2], data[:100]):
        shard.write_bytes(content)
        with pytest.raises(ConfigError, match=r"features-00001-of-00003.* is missing or damaged"):
            Source(root=str(root))
    shard.unlink()
    with pytest.raises(ConfigError, match=r"is missing or damaged; delete it"):
        Source(root=str(root))
    (root / "features-00002-of-00003.array_record").rename(shard)
    with pytest.raises(ConfigError, match=r"00001-of-00003.array_record holds 2, not 4"):
        Source(root=str(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"shape": [1, 3]}', "KeyError"),
    ],
)
def test_a_damaged_listing_is_named(root, text, message):
    (root / "features.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"features.json cannot be read \({message}"):
        Source(root=str(root))


def test_a_damaged_record_is_masked(root):
    source = Source(root=str(root))
    shard = root / "features-00001-of-00003.array_record"
    data = bytearray(shard.read_bytes())
    place = data.index(b"image5.jpg")
    data[place : place + 200] = bytes(200)
    shard.write_bytes(bytes(data))
    batch = assembler(source).batch([*map(Draw, (0, 5, 9))])
    np.testing.assert_array_equal(batch["video_mask"], [True, False, True])
    assert batch["problems"][1] == 1 << REASONS.index("unreadable_record")
    shard.unlink()
    fresh = pickle.loads(pickle.dumps(source))
    clip = fresh[4]
    assert isinstance(clip, Clip)
    assert clip.problems == ("missing_file",)


def test_a_folder_below_the_home_folder_and_no_bucket(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(Source(root="~/features")) == 10
    with pytest.raises(ConfigError, match="root=gs://bucket/features: gs:// is remote storage"):
        Source(root="gs://bucket/features")
