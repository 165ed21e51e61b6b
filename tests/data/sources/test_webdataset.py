import os
import pickle
import shutil

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.corpora import row_index
from fgmm.data.preparation import raw
from fgmm.data.schema import BadInput, Caption
from fgmm.data.sources.webdataset import Source
from tests.data.pairs_fixture import img2dataset, picture, sound, video, video2dataset, write_shard
from tests.data.video_fixture import number_of


def opened(root, **options):
    return Source(root=str(root), **{"validation": 0.0, "seconds": 1.0, **options})


def by_name(source):
    return {clip.clip_id: clip for clip in (source[i] for i in range(len(source)))}


@pytest.fixture
def shards(tmp_path):
    """One shard of video2dataset, one of img2dataset."""
    write_shard(tmp_path / "shards" / "00000.tar", video2dataset())
    write_shard(tmp_path / "shards" / "00001.tar", img2dataset())
    return tmp_path / "shards"


def test_subtitles_of_video2dataset_have_the_times_of_the_clip(shards):
    source = opened(shards / "00000.tar", minimum=0.0)
    clips = by_name(source)
    assert sorted(clips) == ["00000/00000_00000", "00000/00000_00001", "00000/00001", "00000/00002"]
    assert source.report == {"missing_file": 1}
    # Subtitles count from the start of the video, of which the second clip begins at 2 s.
    first, second = clips["00000/00000_00000"], clips["00000/00000_00001"]
    assert first.captions == (Caption("an onion", 0.0, 0.75),)
    assert second.captions[0].text == "fry it"
    # A window ends within its clip.
    short = opened(shards / "00000.tar", minimum=0.0, seconds=0.5)
    second = by_name(short)["00000/00000_00001"]
    assert second.captions == (Caption("fry it", 0.0, 0.5),)
    assert second.video.start == 0.5
    longer = by_name(opened(shards / "00000.tar", seconds=0.9))["00000/00000_00001"]
    assert longer.video.start == pytest.approx(0.05, abs=0.05)
    assert first.group == second.group == "00000/00000"
    german = by_name(opened(shards / "00000.tar", language="de"))["00000/00000_00000"]
    assert [caption.text for caption in german.captions] == ["Zwiebel"]
    whole = clips["00000/00001"]
    assert [caption.text for caption in whole.captions] == ["an onion", "fry it"]
    assert [number_of(p) for p in whole.video.frames(2, 24)] == [55, 65]
    assert clips["00000/00002"].captions == (Caption("a pan"),)


def test_media_are_read_from_where_they_lie(shards):
    clip = by_name(opened(shards / "{00000..00001}.tar"))["00000/00002"]
    assert [number_of(p) for p in clip.video.frames(2, 24)] == [5, 15]
    heard = clip.audio()
    assert len(heard.samples) == heard.rate
    source = opened(shards / "*.tar")
    whole = next(i for i in range(len(source)) if source[i].clip_id == "00000/00001")
    starts = [source.draw(whole, np.random.default_rng(seed)).video.start for seed in range(8)]
    assert 0 <= min(starts) < 1 < 2.5 < max(starts) < 3.1
    assert source.draw(whole, np.random.default_rng(3)).video.start == starts[3]


def test_pictures_sounds_and_classes(tmp_path):
    members = {
        "a.png": picture("red", "PNG"),
        "a.cls": "3",
        "a.json": {"caption": ["one", "two"], "title": "three"},
        "deep/b.webp": picture("blue", "WEBP"),
        "deep/b.cls": "99999999999",
        "c.wav": sound(),
        "c.json": {"caption": None},
        "d.mp4": video(),
        "d.wav": sound(2.0),
    }
    shard = write_shard(tmp_path / "mixed.tar", members)
    source = opened(shard)
    clips = by_name(source)
    assert clips["mixed/a"].video == members["a.png"]
    assert clips["mixed/a"].captions == (Caption("one"), Caption("two"))
    assert by_name(opened(shard, caption="title"))["mixed/a"].captions == (Caption("three"),)
    assert clips["mixed/a"].labels == {"label": 3}
    assert source.classes == {"label": ("0", "1", "2", "3")}
    assert clips["mixed/deep/b"].problems == ("malformed_line",)
    assert clips["mixed/c"].video is None
    assert clips["mixed/c"].captions == clips["mixed/c"].problems == ()
    assert len(clips["mixed/c"].audio().samples) == 16_000
    # The sound beside a video is read where its pictures are.
    assert len(clips["mixed/d"].audio().samples) == 16_000
    assert [number_of(p) for p in clips["mixed/d"].video.frames(2, 24)] == [5, 15]


def test_clips_of_a_video_stay_in_one_split(tmp_path):
    root = tmp_path / "shards"
    for shard in range(3):
        write_shard(root / f"{shard}.tar", img2dataset(20))
    write_shard(root / "cut.tar", video2dataset())
    train, held_out = (
        by_name(opened(root, split=split, validation=0.3)) for split in ("train", "validation")
    )
    assert len(train) + len(held_out) == 64
    assert 10 < len(held_out) < 30
    assert not train.keys() & held_out.keys()
    sides = ["cut/00000_00000" in side for side in (train, held_out)]
    assert sides == ["cut/00000_00001" in side for side in (train, held_out)]
    assert sum(sides) == 1


def test_a_source_can_be_pickled_and_names_what_it_reads(shards):
    source = pickle.loads(pickle.dumps(opened(shards)))
    names = source.raw().names
    assert [source[i].clip_id for i in range(len(source))] == list(names)
    with pytest.raises(IndexError):
        source[len(source)]


def test_recordings_as_they_lie(shards):
    chosen = raw.choose("webdataset:validation=0.0", raw=True)
    found = raw.open_raw(chosen, str(shards / "{00000..00001}.tar"), "train")
    records = {record.clip_id: record for record in (found[i] for i in range(len(found)))}
    assert records["00000/00002"].media == video()
    assert records["00000/00000_00001"].captions == (Caption("fry it", 0.5, 1.0),)
    assert records["00001/000000000"][1:4] == (
        picture("blue"),
        "image",
        (Caption("a blue field 0"),),
    )
    with pytest.raises(ConfigError, match="does not exist"):
        raw.open_raw(chosen, str(shards / "none"), "train")


def test_the_index_is_made_once(shards, monkeypatch):
    opened(shards)
    (file,) = shards.glob("*.index.arrow")
    before = file.stat()
    monkeypatch.setattr(row_index, "_write", None)
    assert len(opened(shards)) == 8
    assert file.stat().st_mtime_ns == before.st_mtime_ns


def test_the_index_is_in_a_cache_where_it_cannot_lie_beside(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write = row_index._write

    def refuse(target, *arguments):
        if target.parent == shards:
            raise PermissionError(target)
        return write(target, *arguments)

    monkeypatch.setattr(row_index, "_write", refuse)
    assert len(opened(shards)) == 8
    assert len(list((tmp_path / "cache" / "fgmm" / "indexes").iterdir())) == 1
    monkeypatch.setattr(row_index, "_write", None)
    assert len(opened(shards)) == 8
    monkeypatch.setattr(row_index, "_write", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(ConfigError, match=r"index of .* cannot be written there or in .*\(full\)"):
        opened(shards / "00000.tar")


def test_a_shard_that_changes_is_noticed(shards):
    before = opened(shards)
    clip = by_name(before)["00001/000000000"]
    write_shard(shards / "00001.tar", img2dataset(5))
    changed = by_name(before)["00001/000000000"]
    assert changed.problems == ("unreadable_record",)
    with pytest.raises(BadInput, match=r"unreadable_record: .*00001.tar has changed since"):
        changed.video()
    os.remove(shards / "00000.tar")
    assert by_name(before)["00000/00002"].problems == ("missing_file",)
    after = opened(shards)
    assert len(after) == 5
    assert by_name(after)["00001/000000000"].video == clip.video
    said = fingerprint.difference(before.fingerprint(), after.fingerprint())
    assert said == "8 clips then, 5 now"


def test_an_index_that_is_made_again_is_noticed(shards):
    source = opened(shards)
    elsewhere = pickle.dumps(source)
    (file,) = shards.glob("*.index.arrow")
    file.unlink()
    write_shard(shards / "00001.tar", img2dataset(9))
    opened(shards)
    clip = pickle.loads(elsewhere)[0]
    assert clip.problems == ("unreadable_record",)
    with pytest.raises(BadInput, match="has been written again since it was opened"):
        clip.video.fill(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(BadInput, match="has been written again since it was opened"):
        pickle.loads(elsewhere).raw()[0]
    # Who had it open goes on with what it was.
    assert by_name(source)["00000/00002"].problems == ()


def test_fingerprints_know_captions_and_copies(shards, tmp_path):
    before = opened(shards).fingerprint()
    copy = shutil.copytree(shards, tmp_path / "copy")
    for shard in copy.glob("*.tar"):
        os.utime(shard, (1, 1))
    assert fingerprint.difference(before, opened(copy).fingerprint()) == ""
    other = {**img2dataset(), "000000000.txt": "a BLUE field 0"}
    write_shard(copy / "00001.tar", other)
    said = fingerprint.difference(before, opened(copy).fingerprint())
    assert said == "8 clips then and now, but captions have changed"


def test_a_shard_cut_off_keeps_what_comes_before(shards):
    path = shards / "00001.tar"
    whole = path.read_bytes()
    for kept in (len(whole) - 10_240 - 700, whole.index(b"000000002.txt") + 100):
        path.write_bytes(whole[:kept])
        source = opened(path)
        assert source.report["unreadable_record"] == 1
        assert {"00001/000000000", "00001/000000001"} <= by_name(source).keys()
    damaged = bytearray(whole)
    damaged[whole.index(b"000000002.jpg") + 140] ^= 1  # its header no longer adds up
    path.write_bytes(damaged)
    assert len(opened(path)) == 2
    assert opened(path).report["unreadable_record"] == 1
    path.write_bytes(whole.rstrip(b"\0") + bytes(-len(whole.rstrip(b"\0")) % 512))
    assert opened(path).report == {}


def test_bad_members_are_counted(tmp_path):
    members = {
        "a.jpg": picture("red"),
        "a.jpg?again": picture("blue"),
        "a.json": "{",
        "b.jpg": b"",
        "b.txt": b"\xff\xfe\xff",
        "b.json": "[1, 2]",
        "c.jpg": picture("red"),
        "c.json": {"clips": [[0, 1]], "clip_subtitles": [{"start": "?", "end": 1, "lines": ["x"]}]},
        "d.jpg": picture("red"),
        "d.txt": " <br> ",
    }
    source = opened(write_shard(tmp_path / "bad.tar", members))
    clips = by_name(source)
    assert source.report == {"duplicate_id": 1}
    assert clips["bad/a"].video == members["a.jpg"]
    problems = {name: clip.problems for name, clip in clips.items()}
    unreadable, empty = ("unreadable_captions",), ("empty_caption",)
    expected = {"bad/a": unreadable, "bad/b": unreadable, "bad/c": unreadable, "bad/d": empty}
    assert problems == expected


def test_names_that_are_no_utf8_are_counted(tmp_path):
    members = {"a.jpg": picture("red"), "caf\udce9.jpg": picture("blue")}
    source = opened(write_shard(tmp_path / "odd.tar", members))
    assert list(by_name(source)) == ["odd/a"]
    assert source.report == {"malformed_line": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08\0" + bytes(600), "is compressed.* unpack the shards with gunzip"),
        (b"BZh91AY" + bytes(600), "unpack the shards with bunzip2"),
        (b"<html>404</html>" * 100, "is no tar file .* remove it, or make it again"),
        (b"", "is no tar file"),
    ],
)
def test_what_is_no_plain_tar_is_refused(tmp_path, content, said):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_patterns_without_shards(shards):
    with pytest.raises(ConfigError, match=r"names no shard; give a folder of .tar files"):
        opened(shards / "{7..9}.tar")
    source = opened(shards / "{00001..00002}.tar")
    assert source.report == {"missing_file": 1}
    assert len(source) == 4
    write_shard(shards / "empty.tar", {"a.txt": "no media"})
    with pytest.raises(
        ConfigError, match=r"has no sample with media in split 'train'.*missing_file 1"
    ):
        opened(shards / "empty.tar")
