import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fgmm.config import ConfigError
from fgmm.data import fingerprint
from fgmm.data.corpora import lists, row_index
from fgmm.data.preparation import raw
from fgmm.data.schema import Caption, Unreadable
from fgmm.data.sources.pair_list import Source
from tests.data.pairs_fixture import picture, sound, video, write_list, write_pictures
from tests.data.video_fixture import number_of


def opened(root, **options):
    return Source(root=str(root), **{"validation": 0.0, "seconds": 1.0, **options})


def by_name(source):
    return {clip.clip_id: clip for clip in (source[i] for i in range(len(source)))}


ODD = 'a "red" field,\n\twith tabs\tand lines'


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_of_a_picture_are_its_captions(tmp_path, ending):
    rows = write_pictures(tmp_path, 3)
    rows[1]["caption"] = ODD
    rows.insert(2, {"path": "images/1.jpg", "caption": "<i>again</i>"})
    source = opened(write_list(tmp_path / f"pairs{ending}", rows))
    clips = by_name(source)
    assert sorted(clips) == ["images/0.jpg", "images/1.jpg", "images/2.jpg"]
    assert source.report == {}
    odd = clips["images/1.jpg"]
    assert odd.video == picture("red")
    assert odd.captions == (Caption('a "red" field, with tabs and lines'), Caption("again"))
    assert odd.group == "images/1.jpg"
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_captions_with_times_are_narration(tmp_path):
    (tmp_path / "b.mp4").write_bytes(video(4.0))
    (tmp_path / "nameless").write_bytes(sound())
    rows = [
        {"file": "b.mp4", "said": "late", "from": "00:00:03", "to": "3.5"},
        {"file": "b.mp4", "said": "early", "from": "0.5", "to": "1.0"},
        {"file": "nameless", "said": "a tone", "from": "", "to": ""},
        {"file": "b.mp4", "said": "backward", "from": "2", "to": "1"},
        {"file": "b.mp4", "said": "never", "from": "soon", "to": "1"},
    ]
    columns = {"media": "file", "caption": "said", "start": "from", "end": "to"}
    source = opened(write_list(tmp_path / "told.csv", rows), **columns, minimum=0.0)
    clips = by_name(source)
    assert source.report == {"malformed_line": 2}
    (b,) = [i for i in range(len(source)) if source[i].clip_id == "b.mp4"]
    assert source[b].video.start == 3.0
    assert source[b].captions == (Caption("early", -2.5, -2.0), Caption("late", 0.0, 0.5))
    starts = {source.draw(b, np.random.default_rng(seed)).video.start for seed in range(9)}
    assert starts == {0.5, 3.0}
    assert [number_of(p) for p in source[b].video.frames(1, 24)] == [70]
    assert clips["nameless"].video is None
    assert len(clips["nameless"].audio().samples) == 16_000
    chosen = raw.choose("pair_list:media=file,caption=said,start=from,end=to", raw=True)
    splits = [raw.open_raw(chosen, str(tmp_path / "told.csv"), s) for s in raw.splits(chosen, "/")]
    records = {record.clip_id: record for found in splits for record in found}
    assert records["b.mp4"].captions == (Caption("early", 0.5, 1.0), Caption("late", 3.0, 3.5))
    assert records["b.mp4"].media == tmp_path / "b.mp4"


def test_contents_of_files_in_parquet(tmp_path):
    rows = [
        {"jpg": picture("red"), "txt": "red", "key": "0"},
        {"jpg": None, "txt": "failed", "key": "1"},
        {"jpg": video(), "txt": "a video", "key": "2"},
        {"jpg": sound(), "txt": None, "key": "3"},
        {"jpg": picture("blue", "WEBP"), "txt": "again", "key": "0"},
        {"jpg": picture("blue", "WEBP"), "txt": "webp", "key": "4"},
    ]
    path = write_list(tmp_path / "img2dataset.parquet", rows)
    source = opened(path, media="jpg", caption="txt", id="key")
    assert source.report == {"missing_file": 1, "duplicate_id": 1}
    clips = by_name(source)
    assert sorted(clips) == ["0", "2", "3", "4"]
    assert clips["0"].video == picture("red")
    assert [number_of(p) for p in clips["2"].video.frames(1, 24)] == [10]
    assert clips["3"].video is None
    assert clips["3"].captions == ()
    assert clips["4"].video == rows[-1]["jpg"]
    unnamed = by_name(opened(path, media="jpg", caption="txt"))
    assert "img2dataset.parquet:5" in unnamed


def test_structs_and_lists_in_parquet(tmp_path):
    rows = write_pictures(tmp_path, 1)
    image = {"bytes": picture("red"), "path": "kept.jpg"}
    table = [
        {"image": image, "captions": ["one", "two"], "id": 7},
        {"image": {"bytes": None, "path": rows[0]["path"]}, "captions": [""], "id": 8},
    ]
    path = write_list(tmp_path / "hub.parquet", table)
    source = opened(path, media="image", caption="captions", id="id")
    clips = by_name(source)
    assert clips["7"].captions == (Caption("one"), Caption("two"))
    assert clips["7"].video == picture("red")
    assert clips["8"].video == picture("blue")
    assert source.report == {"empty_caption": 1}


def test_several_lists_and_paths_from_elsewhere(tmp_path):
    rows = write_pictures(tmp_path / "a", 4)
    write_list(tmp_path / "a" / "0.csv", rows[:2])
    write_list(tmp_path / "a" / "1.tsv", rows[2:])
    assert sorted(by_name(opened(tmp_path / "a"))) == [row["path"] for row in rows]
    assert len(opened(tmp_path / "{a,b}" / "[0-9].csv")) == 2
    absolute = [{**row, "path": str(tmp_path / "a" / row["path"])} for row in rows]
    write_list(tmp_path / "lists" / "absolute.csv", [*absolute, {**rows[0], "path": "../up.jpg"}])
    source = opened(tmp_path / "lists" / "absolute.csv", folder=str(tmp_path / "a"))
    videos = [clip.video for clip in by_name(source).values()]
    assert sorted(map(str, map(type, videos))) == ["<class 'bytes'>"] * 4 + [str(Unreadable)]
    (outside,) = [video for video in videos if not isinstance(video, bytes)]
    assert outside.reason == "missing_file"


def test_a_list_that_changes_is_read_again_alone(tmp_path, monkeypatch):
    rows = write_pictures(tmp_path, 4)
    write_list(tmp_path / "0.csv", rows[:2])
    write_list(tmp_path / "1.csv", rows[2:])
    before = opened(tmp_path)
    said = before.fingerprint()
    write_list(tmp_path / "1.csv", [{**rows[2], "caption": "other"}, rows[3]])
    read = []
    whole = lists.entries
    monkeypatch.setattr(lists, "entries", lambda path, **o: read.append(path) or whole(path, **o))
    after = opened(tmp_path)
    assert read == [str(tmp_path / "1.csv")]
    assert by_name(after)["images/2.jpg"].captions == (Caption("other"),)
    changes = fingerprint.difference(said, after.fingerprint())
    assert changes == "4 clips then and now, but captions have changed"
    said = after.fingerprint()
    (tmp_path / "images" / "0.jpg").write_bytes(picture("green", "PNG"))
    changes = fingerprint.difference(said, opened(tmp_path).fingerprint())
    assert changes == "4 clips then and now, but files have other sizes"


def test_batches_of_a_long_list(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "_ROWS", 7)
    rows = [{"path": f"{n}.jpg", "caption": f"number {n}"} for n in range(50)]
    path = write_list(tmp_path / "long.jsonl", rows)
    train, held_out = (opened(path, split=s, validation=0.2) for s in ("train", "validation"))
    assert len(train._listed.rows.lengths) == 8
    names = [[clip.clip_id for clip in (s[i] for i in range(len(s)))] for s in (train, held_out)]
    assert sorted(names[0] + names[1]) == sorted(row["path"] for row in rows)
    assert 4 < len(names[1]) < 20
    assert list(train.raw().names) == names[0]
    # What is in a split stays there when others are added.
    path.write_text(path.read_text() + '{"path": "new.jpg", "caption": "new"}\n')
    later = by_name(opened(path, split="validation", validation=0.2)).keys()
    assert set(names[1]) <= later <= {*names[1], "new.jpg"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('path,caption\na.jpg,"never closed\nb.jpg,x\n', "line 3: unexpected end of data; close"),
        ('path,caption\na.jpg,"x" y\n', "line 2: ',' expected after '\"'"),
        ("image,text\na.jpg,x\n", "has no column 'path'; it has image, text$"),
        ("", "has no column 'path'; it has none"),
    ],
)
def test_a_csv_that_cannot_be_read(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ConfigError, match=rf"list '.*a.csv'.*{said}") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_rows_are_counted(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b"path,caption\na.jpg,fine\n\nb.jpg\nc.jpg,one,two\n,nothing\nd.jpg,\xff\ne.jpg,<br>\n"
    )
    counted = {"malformed_line": 3, "missing_file": 1, "empty_caption": 1}
    assert opened(tmp_path / "a.csv").report == counted
    (tmp_path / "b.jsonl").write_text(
        '{"path": "a.jpg", "caption": "fine"}\n{"path"\n[1]\n{"caption": "x"}\n'
        '{"path": "b.jpg", "caption": 1.5}\n{"path": "\\ud800", "caption": "x"}\n'
        '{"path": {"bytes": "text"}, "caption": "x"}\n{"path": "\\u0000.jpg", "caption": "x"}\n'
    )
    source = opened(tmp_path / "b.jsonl")
    assert source.report == {"malformed_line": 5, "missing_file": 1}
    assert by_name(source)["\0.jpg"].video.reason == "unreadable_record"
    (tmp_path / "c.tsv").write_text('path\tcaption\na.jpg\t"Quoted he said\nb.jpg\tx\n')
    assert len(opened(tmp_path / "c.tsv", quotes=False)) == 2
    (tmp_path / "d.csv").write_text("path,caption\n")
    with pytest.raises(ConfigError, match=r"has no row with media .* its lists are empty"):
        opened(tmp_path / "d.csv")
    with pytest.raises(ConfigError, match=r"names no list; .* endings: .parquet, .csv"):
        opened(tmp_path / "none.csv")
    (tmp_path / "e.txt").touch()
    with pytest.raises(ConfigError, match=r"must end in one of .parquet, .csv, .tsv, .jsonl"):
        opened(tmp_path / "e.txt")


def test_columns_of_parquet(tmp_path):
    wide = {f"column_{i}": [i] for i in range(1000)}
    path = tmp_path / "wide.parquet"
    pa.parquet.write_table(pa.table({**wide, "path": ["a.jpg"], "caption": ["x"]}), path)
    assert by_name(opened(path))["a.jpg"].captions == (Caption("x"),)
    with pytest.raises(ConfigError, match=r"has no column 'cation'; it has caption, .* 982 more; "):
        opened(path, caption="cation")
    with pytest.raises(ConfigError, match=r"'column_3' is of type int64; caption must be string"):
        opened(path, caption="column_3")
    with pytest.raises(ConfigError, match=r"'column_3' is of type int64; media must be string \("):
        opened(path, media="column_3")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"wide.parquet' cannot be read after row 0 .* cut off"):
        opened(path)


def test_dictionaries_and_views_are_strings(tmp_path):
    columns = {
        "path": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
        "caption": pa.array(["one", "two"], pa.large_string()),
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert by_name(opened(tmp_path / "a.parquet"))["b.jpg"].captions == (Caption("two"),)


def test_the_index_knows_the_columns(tmp_path, monkeypatch):
    rows = [{**row, "title": "a title"} for row in write_pictures(tmp_path, 2)]
    path = write_list(tmp_path / "a.csv", rows)
    opened(path)
    assert opened(path, caption="title")[0].captions == (Caption("a title"),)
    monkeypatch.setattr(row_index, "_write", None)
    assert opened(path)[0].captions != opened(path, caption="title")[0].captions


def test_missing_lists_are_counted(tmp_path):
    rows = write_pictures(tmp_path, 2)
    write_list(tmp_path / "0.csv", rows[:1])
    source = opened(tmp_path / "{0..2}.csv")
    assert (len(source), source.report) == (1, {"missing_file": 2})
    write_list(tmp_path / "2.csv", rows[1:])
    source = opened(tmp_path / "{0..2}.csv")
    assert (len(source), source.report) == (2, {"missing_file": 1})


def test_a_relative_root_has_the_index_of_the_absolute_one(tmp_path, monkeypatch):
    write_list(tmp_path / "a.csv", write_pictures(tmp_path, 2))
    opened(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(row_index, "_write", None)
    assert len(opened("a.csv")) == 2


def test_processes_of_one_number_do_not_write_one_file(tmp_path):
    path = write_list(tmp_path / "a.csv", write_pictures(tmp_path, 2))
    opened(path)
    (index,) = tmp_path.glob("*.index.arrow")
    index.unlink()
    # Where another machine's process of this number would write.
    index.with_name(f"{index.name}.{os.getpid()}").mkdir()
    opened(path)
    assert index.exists()


def test_processes_that_start_together_read_one_index(tmp_path, monkeypatch):
    """Workers of the first process open the index when the second has made it, too."""
    path, write = write_list(tmp_path / "a.csv", write_pictures(tmp_path, 2)), row_index._published
    for start in range(2):
        found = []

        def other_first(*given, found=found):
            monkeypatch.setattr(row_index, "_published", write)
            found.append(opened(path))
            return write(*given)

        monkeypatch.setattr(row_index, "_published", other_first)
        found.append(opened(path))
        for source in found:
            clip = by_name(pickle.loads(pickle.dumps(source)))["images/0.jpg"]
            assert isinstance(clip.video, bytes), start
        # The second time, there is an index of a list that has changed.
        path.write_text(path.read_text() + "images/none.jpg,none\n")


def test_the_fingerprint_of_a_list_that_holds_pictures_is_its_own(tmp_path):
    rows = [{"jpg": picture(colour), "txt": colour} for colour in ("red", "blue")]
    columns = {"media": "jpg", "caption": "txt"}
    path = write_list(tmp_path / "held.parquet", rows)
    before = opened(path, **columns).fingerprint()
    for number in range(200):
        (tmp_path / f"{number}.txt").write_text("beside it")
    assert not fingerprint.difference(before, opened(path, **columns).fingerprint())
    rows[1]["jpg"] = picture("blue", "WEBP")
    write_list(path, rows)
    assert fingerprint.difference(before, opened(path, **columns).fingerprint())


def test_rows_without_an_id_are_named_by_their_paths(tmp_path):
    rows = [{"id": name, "path": f"{name or i}.jpg"} for i, name in enumerate(("a", "", "", "a"))]
    write_list(tmp_path / "a.csv", [row | {"caption": "x"} for row in rows])
    source = opened(tmp_path / "a.csv", id="id")
    assert sorted(by_name(source)) == ["1.jpg", "2.jpg", "a"]
    assert source.report == {"duplicate_id": 1}


def test_texts_of_parquet_that_are_no_utf8_are_counted(tmp_path):
    texts = pa.array([b"fine", b"caf\xe9", b"fine too"], pa.binary()).view(pa.string())
    table = pa.table({"path": ["a.jpg", "b.jpg", "c.jpg"], "caption": texts})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    source = opened(tmp_path / "a.parquet")
    assert sorted(by_name(source)) == ["a.jpg", "c.jpg"]
    assert source.report == {"malformed_line": 1}


def test_a_field_that_is_too_long_is_one_line(tmp_path):
    (tmp_path / "a.csv").write_text("path,caption\na.jpg," + 140_000 * "x")
    with pytest.raises(ConfigError, match=r"larger than field limit .*; shorten it"):
        opened(tmp_path / "a.csv", quotes=False)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_name_of_the_folder_need_not_be_utf8(tmp_path, ending):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    rows = write_pictures(folder, 2)
    write_list(tmp_path / f"pairs{ending}", rows).rename(folder / f"pairs{ending}")
    source = opened(folder)
    assert len(source) == 2
    assert pickle.loads(pickle.dumps(source))[0] == source[0]
    assert source[0].video in (picture("red"), picture("green"), picture("blue"))
