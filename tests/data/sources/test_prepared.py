import json
import pathlib
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.schema import BadInput, BatchShape
from fgmm.data.sources import howto100m, prepared
from fgmm.data.stream import training_batches
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import Tokenizer
from tests.data import video_fixture
from tests.data.test_prepare import task_of, written

TOKENIZER = tokenizers.path_of("narrated_shapes")
VIDEOS = 6
OPTIONS = {"seconds": 0.4, "candidates": 1, "minimum": 0.5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return video_fixture.write_howto100m(tmp_path_factory.mktemp("corpus") / "h", VIDEOS)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "whole"
    written(task_of(corpus, output, "howto100m:validation=0.0"))
    return output


@pytest.fixture
def folder(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole, tmp_path / "prepared"))


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
            np.testing.assert_array_equal(after.video.frames(2, 32), before.video.frames(2, 32))
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
        read = list(pool.map(lambda index: again[index].video.frames(2, 32), indices))
    for index, frames in zip(indices, read, strict=True):
        np.testing.assert_array_equal(frames, source[index].video.frames(2, 32))


def test_batches_for_training(folder):
    shape = BatchShape(2, 32, 32, 1600, 4000, 1, 4, 0)
    assembler = pipeline.Assembler(opened(folder), shape, None, "function_words")
    batch = next(training_batches(assembler, seed=0, batch_size=4))
    assert batch["video_mask"].all()
    assert batch["audio_mask"].all()
    assert batch["video"].std() > 10


def assembled(source, index):
    """Masks of video, sound and text of an example, and its problems."""
    shape = BatchShape(2, 32, 32, 1600, 4000, 1, 4, 8)
    example = pipeline.Assembler(source, shape, Tokenizer(TOKENIZER), "function_words")(index)
    masks = [bool(example[f"{name}_mask"].any()) for name in ("video", "audio", "text")]
    return masks, set(pipeline.count_problems(np.asarray(example["problems"])))


def shard_of(folder, index):
    return next(iter(sorted(folder.glob(f"*.array_record-{index:05d}-*"))))


def test_a_damaged_record_is_masked_and_counted(folder):
    path = shard_of(folder, 2)
    data = bytearray(path.read_bytes())
    data[200:-200] = bytes(len(data) - 400)
    path.write_bytes(data)
    source = opened(folder)
    for read in (source[2].video, source[2].audio):
        with pytest.raises(BadInput, match=f"unreadable_record: record 2 in {path.name}: Runtime"):
            read()
    assert source[1].video.frames(2, 32).shape == (2, 32, 42 + 1, 3)
    assert assembled(source, 1) == ([True, True, True], set())
    assert assembled(source, 2) == ([False] * 3, {"unreadable_record", "no_captions"})


def test_a_damaged_end_of_a_shard_costs_its_records_and_no_others(folder):
    path = shard_of(folder, 0)
    data = bytearray(path.read_bytes())
    last = len(data) - 65536  # where ArrayRecord begins its last block
    data[last : last + 64] = bytes(64)
    path.write_bytes(data)
    source = opened(folder)
    assert len(source) == VIDEOS
    assert assembled(source, 0)[1] == {"unreadable_record", "no_captions"}
    assert assembled(source, 1) == ([True, True, True], set())


def test_a_shard_that_goes_while_it_is_in_use_is_masked_and_counted(folder):
    source, other = opened(folder), opened(folder)
    assert assembled(source, 3)[0] == [True, True, True]
    shard_of(folder, 3).unlink()
    # What is open can be read until it is closed.
    assert assembled(source, 3)[0] == [True, True, True]
    assert assembled(other, 3) == ([False] * 3, {"missing_file", "no_captions"})
    assert assembled(other, 4) == ([True, True, True], set())
    batches = training_batches(
        pipeline.Assembler(other, BatchShape(2, 32, 32, 0, 0, 1, 4, 0), None, ""),
        seed=0,
        batch_size=VIDEOS,
    )
    assert next(batches)["video_mask"].sum() == VIDEOS - 1


def test_checksums_are_compared_when_asked(folder):
    path = shard_of(folder, 1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert opened(folder)[1].video.frames(2, 32).shape[0] == 2
    with pytest.raises(ConfigError, match=f"{path.name} has been changed.*; delete it") as error:
        opened(folder, verify=True)
    assert len(str(error.value).splitlines()) == 1
    shard_of(folder, 4).write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{path.name} .*and 1 more shards"):
        opened(folder, verify=True)


def test_whole_shards_pass_the_comparison(folder):
    assert len(opened(folder, verify=True)) == VIDEOS


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damage_of_what_tfds_reads_is_said_in_one_line(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(ConfigError, match="TFDS cannot open it") as error:
        opened(folder)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("file", "../elsewhere"), ("file", 3), ("bytes", "many"), ("records", None), ("sha256", None)],
)
def test_a_manifest_of_another_form_is_refused(folder, key, value):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0][key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"manifest\.json cannot be read"):
        opened(folder)


def test_a_manifest_with_other_numbers_of_records_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["records"] = 2
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"has {VIDEOS} records .* manifest.json {VIDEOS + 1}"):
        opened(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "hologram"},
        {"problems": ["unheard_of"]},
        {"duration": float("nan")},
        {"clip_id": b"\xff\xfe"},
    ],
)
def test_records_that_no_preparation_writes_are_unreadable(folder, change):
    source = opened(folder)
    record = source._records[0]
    encoded = {
        key: [word.encode() for word in value] if isinstance(value, list) else value
        for key, value in change.items()
    }
    encoded = {k: v.encode() if isinstance(v, str) else v for k, v in encoded.items()}
    source.__dict__["_records"] = [{**record, **encoded}, *[record] * (VIDEOS - 1)]
    assert assembled(source, 0) == ([False] * 3, {"unreadable_record", "no_captions"})
    assert assembled(source, 1)[1] == set()


def test_what_is_missing_or_cut_is_said_when_it_is_opened(corpus, folder, tmp_path):
    for options, message in [
        ({"split": "test"}, "split='test' is unknown to .*; allowed: train"),
        ({"seconds": 0.0}, "seconds=0.0 must be above 0"),
        ({"minimum": -1.0}, "minimum=-1.0 must be at least 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            opened(folder, **options)
    with pytest.raises(ConfigError, match=r"has no manifest\.json: nothing was prepared there"):
        opened(corpus)
    shard = min(folder.glob("*.array_record-*"))
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=r"bytes instead of .*; delete it and prepare again"):
        opened(folder)
    shard.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        opened(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match=r"manifest\.json cannot be read"):
        opened(folder)


def test_with_windows_nothing_is_drawn(folder):
    assert hasattr(opened(folder), "draw")
    source = opened(folder, windows=2)
    assert not hasattr(source, "draw")
    shape = BatchShape(2, 32, 32, 0, 4000, 1, 4, 0)
    assert pipeline.Assembler(source, shape, None, "function_words", cache=True).cache
