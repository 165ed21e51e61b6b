"""Corpora as a config names them, and the one length of their windows."""

import dataclasses
import pickle

import pytest

from fgmm.config import ConfigError
from fgmm.data.opening import check_lengths, open_source
from fgmm.data.sources import mixture, narrated_shapes, video_folder
from tests.data import video_fixture


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = video_fixture.write_narrated_videos(tmp_path_factory.mktemp("corpus") / "v", 2)
    return {"name": "video_folder", "root": str(folder), "validation": 0.0}


def test_windows_are_as_long_as_a_batch_takes_them(videos):
    assert open_source(videos, "data.source", 0.5).seconds == 0.5
    assert open_source({**videos, "seconds": 0.25}, "evals.x.source", 0.5).seconds == 0.25
    parts = {"a": videos, "b": {**videos, "seconds": 0.25}, "c": {"name": "narrated_shapes"}}
    opened = open_source({"name": "mixture", "sources": parts}, "data.source", 0.5)
    lengths = [getattr(source, "seconds", None) for source in opened._sources]
    assert lengths == [0.5, 0.25, None]


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"name": "video_folder", "seconds": 4.0}, "data.source.seconds=4.0"),
        (
            {"name": "mixture", "sources": {"a": {"name": "prepared", "seconds": 4.0}}},
            "data.source.sources.a.seconds=4.0",
        ),
        ({"name": "mixture", "seconds": 4.0, "sources": {}}, "data.source.seconds=4.0"),
    ],
)
def test_windows_of_another_length_are_refused_in_training(entry, key):
    with pytest.raises(ConfigError) as error:
        check_lengths(entry, "data.source", 2.0)
    assert str(error.value).startswith(f"{key} must be data.seconds=2.0")
    assert len(str(error.value).splitlines()) == 1


def test_whole_recordings_and_equal_lengths_are_trained_on():
    for entry in ({"name": "msr_vtt", "seconds": 0.0}, {"name": "esc50", "seconds": 2}, {}):
        check_lengths(entry, "data.source", 2.0)


def test_sources_are_plain_values(videos):
    options = {key: value for key, value in videos.items() if key != "name"}
    source = video_folder.Source(**options, seconds=0.5)
    same = video_folder.Source(**options, seconds=0.5)
    assert source == same == pickle.loads(pickle.dumps(source))
    assert len({source, same, dataclasses.replace(source, seconds=0.25)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.seconds = 1.0
    mixed = mixture.Source(sources={"a": {"name": "narrated_shapes", "clips": 4}})
    assert mixed == mixture.Source(sources={"a": {"name": "narrated_shapes", "clips": 4}})
    assert hash(mixed) == hash(pickle.loads(pickle.dumps(mixed)))
    assert narrated_shapes.Source(clips=3) != narrated_shapes.Source(clips=4)


def test_what_is_not_opened_reads_nothing():
    source = video_folder.Source(root="nowhere", opened=False)
    with pytest.raises(ConfigError, match="root='nowhere' does not exist"):
        source.raw()
    with pytest.raises(ConfigError, match=r"validation=2\.0 must be from 0 to 1"):
        video_folder.Source(root="nowhere", validation=2.0, opened=False)
