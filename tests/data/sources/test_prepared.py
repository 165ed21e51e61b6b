import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.schema import REASONS, BadInput, BatchShape
from fgmm.data.sources import howto100m, prepared
from tests.data import video_fixture
from tests.data.test_prepare import task_of, written

VIDEOS = 6
OPTIONS = {"seconds": 0.4, "fps": 5.0, "size": 32, "candidates": 1, "minimum": 0.5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return video_fixture.write_howto100m(tmp_path_factory.mktemp("corpus") / "h", VIDEOS)


@pytest.fixture
def folder(corpus, tmp_path):
    written(task_of(corpus, tmp_path / "prepared", "howto100m:validation=0.0"))
    return tmp_path / "prepared"


def opened(folder, **options):
    return prepared.Source(root=str(folder), **{**OPTIONS, **options})


def test_clips_are_those_of_the_files(corpus, folder):
    files = howto100m.Source(root=str(corpus), validation=0.0, **OPTIONS)
    source = opened(folder)
    assert len(source) == len(files) == VIDEOS
    for index in range(-1, VIDEOS):
        pairs = [(files[index], source[index])]
        pairs += [(s.draw(index, np.random.default_rng(4)) for s in (files, source))]
        for before, after in pairs:
            assert (after.clip_id, after.group) == (before.clip_id, before.group)
            assert after.captions == before.captions
            np.testing.assert_array_equal(after.video(), before.video())
            np.testing.assert_array_equal(after.audio().samples, before.audio().samples)
    with pytest.raises(IndexError):
        source[VIDEOS]


def test_can_be_pickled_and_read_by_many_threads(folder):
    source = opened(folder)
    data = pickle.dumps(source)
    assert len(data) < 2000
    again = pickle.loads(data)
    indices = [*range(VIDEOS)] * 4
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda index: again[index].video(), indices))
    for index, frames in zip(indices, read, strict=True):
        np.testing.assert_array_equal(frames, source[index].video())


def test_batches_for_training(folder):
    shape = BatchShape(2, 32, 32, 1600, 4000, 1, 4, 0)
    assemble = pipeline.Assemble(opened(folder), shape, None, "function_words")
    batch = next(pipeline.training_batches(assemble, seed=0, batch_size=4))
    assert batch["video_mask"].all()
    assert batch["audio_mask"].all()
    assert batch["video"].std() > 10


def test_a_damaged_record_is_masked_and_counted(folder):
    path = next(iter(sorted(folder.glob("*.array_record-00002-*"))))
    data = bytearray(path.read_bytes())
    data[200:-200] = bytes(len(data) - 400)
    path.write_bytes(data)
    source = opened(folder)
    with pytest.raises(BadInput, match="unreadable_video: record 2 of"):
        source[2].video()
    assert source[1].video().shape == (2, 32, 42 + 1, 3)
    shape = BatchShape(2, 32, 32, 0, 4000, 1, 4, 0)
    example = pipeline.Assemble(source, shape, None, "function_words")(2)
    assert not example["video_mask"]
    assert example["problems"] == 1 << REASONS.index("unreadable_video")


def test_what_is_missing_or_cut_is_said_when_it_is_opened(corpus, folder, tmp_path):
    for options, message in [
        ({"split": "test"}, "split='test' is unknown to .*; allowed: train"),
        ({"fps": 0.0}, "fps=0.0 must be greater than 0"),
        ({"minimum": -1.0}, "minimum=-1.0 must be at least 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            opened(folder, **options)
    with pytest.raises(ConfigError, match=r"has no manifest\.json: nothing was prepared there"):
        opened(corpus)
    shard = min(folder.glob("*.array_record-*"))
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=r"bytes instead of .*; prepare it again"):
        opened(folder)
    shard.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        opened(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match=r"manifest\.json cannot be read"):
        opened(folder)
