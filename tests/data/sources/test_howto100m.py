import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.corpora import narrations
from fgmm.data.schema import BadInput, BatchShape, Caption
from fgmm.data.sources.howto100m import Source
from fgmm.data.stream import training_batches
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import Tokenizer
from tests.data.video_fixture import FPS, number_of, numbered, sung, write_video

CSV = """start,end,text
0.5,1.0,first
2.0,3.0,second
2.5,2.75,third
6.0,5.0,backward
7.0,8.0,
7.0,8.0, \t
-1.0,8.0,early
x,8.0,no number
9.0,11.0,"fourth, at
last"
"""
SPOKEN = {
    "-dash": [(0.0, 1.0, "one"), (1.0, 9.0, "two")],
    "_under_a-B": [(0.0, 2.0, "under")],
    "_under_A-b": [(0.0, 2.0, "other case")],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The official layout with its quirks: a missing video, one without captions, odd names."""
    root = tmp_path_factory.mktemp("corpus") / "howto100m"
    frames = [numbered(i) for i in range(12 * FPS)]
    write_video(root / "videos" / "a" / "long.mp4", frames, sound=sung(12.0))
    for name, ending in [("-dash", "webm"), ("_under_a-B", "mkv"), ("_under_A-b", "MP4")]:
        form = "mp4" if ending == "MP4" else "matroska"
        write_video(root / "videos" / "b" / f"{name}.{ending}", frames[:40], form=form)
    write_video(root / "videos" / "silent.mp4", frames[:100], sound=sung(5.0))
    (root / "videos" / "long.part").write_bytes(b"")
    names = ["long", "-dash", "gone", "_under_a-B", "_under_A-b", "silent"]
    lines = [f"{name},Food and Entertaining,Drinks,6,25938" for name in names]
    listing = "\n".join(["video_id,category_1,category_2,rank,task_id", *lines, ",x,y,1,2", ""])
    (root / "HowTo100M_v1.csv").write_text(listing)
    (root / "captions").mkdir()
    (root / "captions" / "long.csv").write_text(CSV)
    for name, rows in SPOKEN.items():
        text = "\n".join(f"{a},{b},{said}" for a, b, said in rows)
        (root / "captions" / f"{name}.csv").write_text(f"start,end,text\n{text}\n")
    whole = {
        name: {key: [row[i] for row in rows] for i, key in enumerate(("start", "end", "text"))}
        for name, rows in SPOKEN.items()
    }
    whole["long"] = {
        "start": [0.5, 2.0, 2.5, 6.0, 7.0, 9.0],
        "end": [1.0, 3.0, 2.75, 5.0, 8.0, 11.0, 12.0],
        "text": ["first", "second", "third", "backward", "", 'a "}{" \\ é', "longer"],
    }
    (root / "raw_caption.json").write_text(json.dumps(whole))
    return root


@pytest.fixture
def own(corpus, tmp_path):
    """A copy of the corpus that a test may damage."""
    return shutil.copytree(corpus, tmp_path / "own")


def opened(root, **options):
    options = {"validation": 0.0, "seconds": 1.0, **options}
    return Source(root=str(root), **options)


def shown(clip):
    return [number_of(picture) for picture in clip.video.frames(4, 32)]


def test_listed_videos_are_found_in_folders_with_any_ending(corpus):
    source = opened(corpus)
    found = [source.names[i] for i in range(len(source))]
    assert found == ["long", "-dash", "_under_a-B", "_under_A-b", "silent"]
    assert source.report == {"missing_file": 1, "malformed_line": 1}
    texts = [[caption.text for caption in source[i].captions] for i in range(1, 5)]
    assert texts == [["one", "two"], ["under"], ["other case"], []]
    assert [source[i].problems for i in (1, 4)] == [(), ("missing_captions",)]
    assert len(source[2].video.frames(4, 32)) == 4
    for i in range(5):
        assert source[i].clip_id == source[i].group == found[i]


def test_the_middle_narration_and_window_without_a_generator(corpus):
    clip = opened(corpus, candidates=1)[0]
    # Of four: 2.5 s to 2.75 s, widened to 0.625 s to 4.625 s, and of that the middle second.
    assert clip.captions == (Caption("third", 2.5 - 2.125, 2.75 - 2.125),)
    assert clip.problems == ("empty_caption", "malformed_line")
    assert shown(clip) == [45, 50, 55, 60]
    sound = clip.audio()
    assert len(sound.samples) == sound.rate
    expected = sung(12.0)[round(2.125 * sound.rate) :][: sound.rate]
    assert np.corrcoef(sound.samples, expected)[0, 1] > 0.99


def test_a_generator_draws_narration_and_window(corpus):
    source = opened(corpus, candidates=1)
    first = {}
    for seed in range(60):
        clip = source.draw(0, np.random.default_rng(seed))
        (caption,) = clip.captions
        again = source.draw(0, np.random.default_rng(seed))
        assert again.captions == clip.captions
        first.setdefault(caption.text, []).append(-caption.start)
    # Times of the narrations as the clip has them say where its window starts.
    stretches = {"first": (0.0, 4.0), "second": (0.5, 4.5), "third": (0.625, 4.625)}
    stretches["fourth, at last"] = (8.0, 12.0)
    begins = {"first": 0.5, "second": 2.0, "third": 2.5, "fourth, at last": 9.0}
    assert first.keys() == stretches.keys()
    for text, offsets in first.items():
        starts = begins[text] + np.array(offsets)
        low, high = stretches[text]
        assert starts.min() >= low
        assert starts.max() <= high - 1.0
        assert np.ptp(starts) > 1.0
    assert shown(source.draw(0, np.random.default_rng(3))) == shown(
        source.draw(0, np.random.default_rng(3))
    )


def test_a_long_narration_is_not_widened(corpus):
    source = opened(corpus, candidates=1, minimum=0.0)
    assert -source[1].captions[0].start == pytest.approx((9 - 1 - 1) / 2)
    # Shorter than the window: from its start on.
    assert source[0].captions[0].start == 0.0


def test_without_narration_the_window_is_anywhere(corpus):
    source = opened(corpus)
    assert shown(source[4]) == [42, 47, 52, 57]
    starts = {shown(source.draw(4, np.random.default_rng(seed)))[0] for seed in range(6)}
    assert len(starts) > 3
    assert all(2 <= start <= 82 for start in starts)


def captions_at(*times):
    return tuple(Caption(str(i), start, end) for i, (start, end) in enumerate(times))


def test_a_bag_grows_towards_the_nearer_neighbour():
    spoken = captions_at((0, 1), (8, 9), (10, 11), (12, 13), (20, 21))
    assert narrations.nearest(spoken, 2, 1) == (2, 3)
    assert narrations.nearest(spoken, 2, 2) == (2, 4)  # alike: to the right
    assert narrations.nearest(spoken, 2, 3) == (1, 4)
    assert narrations.nearest(spoken, 2, 4) == (1, 5)
    assert narrations.nearest(spoken, 0, 2) == (0, 2)
    assert narrations.nearest(spoken, 4, 2) == (3, 5)
    assert narrations.nearest(spoken, 4, 9) == (0, 5)


@given(
    st.lists(st.tuples(st.floats(0, 99), st.floats(0, 9)), min_size=1, max_size=9),
    st.integers(0, 8),
    st.integers(1, 12),
)
def test_a_bag_is_as_the_published_loader_has_it(times, index, count):
    """Against the rule of video_loader.py, which says narrations at an end again; here once."""
    spoken = captions_at(*sorted((start, start + length) for start, length in times))
    index = index % len(spoken)
    start = end = index
    while end - start + 1 < count:
        if start == 0:
            end = start + count - 1
        elif end == len(spoken) - 1:
            start = end - count + 1
        elif spoken[end].end - spoken[start - 1].start < spoken[end + 1].end - spoken[start].start:
            start -= 1
        else:
            end += 1
    expected = {max(0, min(len(spoken) - 1, i)) for i in range(start, end + 1)}
    assert set(range(*narrations.nearest(spoken, index, count))) == expected


def test_one_json_file_is_read_in_place(own):
    source = opened(own, captions="raw_caption.json", candidates=9)
    assert [caption.text for caption in source[0].captions] == [
        "first",
        "second",
        "third",
        'a "}{" \\ é',
    ]
    assert source[0].problems == ("empty_caption", "malformed_line")
    assert [caption.text for caption in source[2].captions] == ["under"]
    assert source[4].problems == ("missing_captions",)
    other = pickle.loads(pickle.dumps(source))
    assert other[3].captions == source[3].captions


def test_the_index_of_a_json_file_is_stored_and_made_anew_when_the_file_changes(own, monkeypatch):
    path = own / "raw_caption.json"
    narrations.JsonFile(path)
    index = own / "raw_caption.json.index.npy"
    written = index.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(narrations.JsonFile, "_found_parts", None)  # not called
        assert narrations.JsonFile(path).read("-dash")[0][0].text == "one"
    index.write_bytes(written[: len(written) // 2])
    assert narrations.JsonFile(path).read("-dash")[0][0].text == "one"
    assert index.read_bytes() == written
    path.write_text('{"new": {"start": [1], "end": [2], "text": ["said"]}}')
    assert narrations.JsonFile(path).read("new")[0] == (Caption("said", 1.0, 2.0),)
    with pytest.raises(BadInput, match="missing_captions"):
        narrations.JsonFile(path).read("-dash")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 0),
        ("[]", 0),
        ('{"a": {"start": [1], "end": [2], "text": ["x"]}', 1),
        ('{"a": {"start": [1], "end"', 1),
        ('{"a": {"b": {}}}', 1),
        ('{"a": {}, "b": 1}', 9),
        ('{"a": {}} {', 9),
        ('{"a\x01": {}}', 1),
    ],
)
def test_what_is_no_such_json_is_refused_with_its_place(tmp_path, text, at):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError, match=f"is not of the form .* at byte {at}$"):
        narrations.JsonFile(tmp_path / "c.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "c.json"]


def test_broken_captions_cost_their_clip_its_text_alone(own):
    (own / "captions" / "long.csv").write_bytes(b"start,end,text\n0,1,\xff\xfe\n")
    (own / "captions" / "-dash.csv").write_text("begin,end,text\n0,1,x\n")
    source = opened(own)
    for i in (0, 1):
        assert (source[i].captions, source[i].problems) == ((), ("unreadable_captions",))
    assert len(source[0].video.frames(4, 32)) == 4


@pytest.mark.parametrize(
    "text", ["start,end,te\rxt\n0,1,x\n", "start,end,text\n0,1," + "x" * 200_000]
)
def test_captions_that_are_no_csv_are_unreadable(own, text):
    (own / "captions" / "long.csv").write_text(text, newline="")
    assert opened(own)[0].problems == ("unreadable_captions",)


def test_captions_nested_without_end_are_unreadable(tmp_path):
    nested = "[" * 100_000
    (tmp_path / "c.json").write_text(f'{{"a": {{"start": {nested}}}}}')
    with pytest.raises(BadInput, match="unreadable_captions: a"):
        narrations.JsonFile(tmp_path / "c.json").read("a")


def test_a_list_may_name_files(own):
    lines = ["video_path", "a/long.mp4", "nowhere/gone.mp4", "../long.mp4", "/a/long.mp4", ""]
    (own / "videos.csv").write_text("\n".join(lines))
    source = opened(own, listing="videos.csv")
    assert [source.names[i] for i in range(len(source))] == ["long", "gone"]
    assert source.report == {"malformed_line": 2}
    assert source[0].captions
    with pytest.raises(BadInput, match="missing_file"):
        source[1].video.frames(4, 32)
    (own / "ids.csv").write_text("video_id,path\n-dash, a/long.mp4\n")
    clip = opened(own, listing="ids.csv")[0]
    assert (clip.clip_id, clip.captions[0].text, len(clip.video.frames(4, 32))) == (
        "-dash",
        "one",
        4,
    )


SHAPE = BatchShape(
    frames=4,
    height=16,
    width=16,
    samples=1000,
    sample_rate=500,
    captions=3,
    phrases=4,
    tokens=8,
)
MODEL = tokenizers.path_of("narrated_shapes")


def test_batches_mask_what_is_missing_and_count_it(own):
    (own / "videos" / "b" / "-dash.webm").write_bytes(b"broken")
    source = opened(own, candidates=3)
    (own / "videos" / "silent.mp4").unlink()  # after the source was opened
    assembler = pipeline.Assembler(source, SHAPE, Tokenizer(MODEL), "function_words")
    ((batch, clips),) = pipeline.evaluation_batches(assembler, 5)
    assert clips == 5
    np.testing.assert_array_equal(batch["video_mask"], [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(batch["audio_mask"], [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(batch["text_mask"].sum(axis=1), [3, 2, 1, 1, 0])
    assert pipeline.count_problems(batch["problems"]) == {
        "missing_file": 1,
        "unreadable_video": 1,
        "unreadable_audio": 1,
        "no_audio": 2,
        "no_captions": 1,
        "missing_captions": 1,
        "malformed_line": 1,
        "empty_caption": 1,
    }


def test_training_batches_are_a_function_of_seed_and_step(corpus):
    assembler = pipeline.Assembler(
        opened(corpus, candidates=3), SHAPE, Tokenizer(MODEL), "function_words"
    )

    def batches(first, count, processes=1, process=0):
        iterator = training_batches(
            assembler,
            seed=5,
            batch_size=4,
            start_step=first,
            processes=processes,
            process=process,
        )
        return [next(iterator) for _ in range(count)]

    whole = batches(0, 4)
    for name, array in batches(2, 1)[0].items():
        np.testing.assert_array_equal(array, whole[2][name])
    for process in range(2):
        for name, array in batches(2, 1, 2, process)[0].items():
            np.testing.assert_array_equal(array, whole[2][name][2 * process :][:2])
    # The same video again is another window of it.
    windows = [b["video"][b["record"] == 0] for b in whole if 0 in b["record"]]
    windows = np.concatenate(windows)
    assert len(windows) >= 2
    assert len({window.tobytes() for window in windows}) > 1


def test_windows_that_are_drawn_are_not_cached(corpus):
    with pytest.raises(ConfigError, match=r"data\.cache=True would keep one stretch"):
        pipeline.Assembler(opened(corpus), SHAPE, Tokenizer(MODEL), "function_words", cache=True)


def test_the_split_goes_by_ids(corpus):
    parts = [opened(corpus, split=s, validation=0.5) for s in ("train", "validation")]
    found = [[part.names[i] for i in range(len(part))] for part in parts]
    assert all(found)
    assert sorted(found[0] + found[1]) == sorted(
        ["long", "-dash", "_under_a-B", "_under_A-b", "silent"]
    )


def test_can_be_pickled_and_read_by_many_threads(corpus):
    source = opened(corpus)
    other = pickle.loads(pickle.dumps(source))
    indices = list(range(len(source))) * 3
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: other[i].video.frames(4, 32), indices))
    for index, frames in zip(indices, read, strict=True):
        np.testing.assert_array_equal(frames, source[index].video.frames(4, 32))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"root": "nowhere"}, "root='nowhere' is no folder"),
        ({"listing": "other.csv"}, "listing='other.csv': there is no file"),
        ({"videos": "films"}, "videos='films': there is no folder"),
        ({"captions": "said"}, "captions='said': there is no folder or JSON file"),
        ({"listing": "captions/long.csv"}, "has none of the columns video_id, video_path, path"),
        (
            {"videos": "captions"},
            "has no video of split 'train' .*; malformed_line 1, missing_file 6",
        ),
        ({"split": "test"}, "split='test' is unknown; allowed: train, validation"),
        ({"split": "validation"}, "has no video of split 'validation' with validation=0.0"),
        ({"validation": 1.5}, "validation=1.5 must be from 0 to 1"),
        ({"seconds": 0.0}, "seconds=0.0 must be above 0"),
        ({"candidates": 0}, "candidates=0 must be at least 1"),
        ({"minimum": -1.0}, "minimum=-1.0 must be at least 0"),
    ],
)
def test_what_is_wrong_is_named(corpus, options, error):
    with pytest.raises(ConfigError, match=error):
        opened(**{"root": corpus, **options})


def test_long_ids_and_endings_in_mixed_case(corpus, tmp_path):
    """As one JSON file, or as a folder of CSV files: the same."""
    names = ["x" * 70, "x" * 70 + "y", "ünï" * 12]
    root = tmp_path / "long"
    (root / "videos").mkdir(parents=True)
    (root / "captions").mkdir()
    for name, ending in zip(names, ("mp4", "MP4", "Mp4"), strict=True):
        shutil.copy(corpus / "videos" / "silent.mp4", root / "videos" / f"{name}.{ending}")
    for i, (name, ending) in enumerate(zip(names, ("csv", "CSV", "Csv"), strict=True)):
        (root / "captions" / f"{name}.{ending}").write_text(f"start,end,text\n0,1,said {i}\n")
    columns = {n: {"start": [0], "end": [1], "text": [f"said {i}"]} for i, n in enumerate(names)}
    (root / "raw_caption.json").write_text(json.dumps(columns))
    (root / "HowTo100M_v1.csv").write_text("video_id\n" + "\n".join(names) + "\n")
    for captions in ("captions", "raw_caption.json"):
        source = opened(root, captions=captions)
        assert list(source.names) == names
        assert [source[i].captions[0].text for i in range(3)] == ["said 0", "said 1", "said 2"]
        assert not source.report


def test_ids_that_come_again_are_counted(own):
    listing = own / "HowTo100M_v1.csv"
    listing.write_text(listing.read_text() + "long,again,,,\n")
    (own / "videos" / "z").mkdir()
    shutil.copy(own / "videos" / "silent.mp4", own / "videos" / "z" / "silent.mp4")
    source = opened(own)
    assert source.report["duplicate_id"] == 2
    assert [name for name in source.names if name == "long"] == ["long"]
    one = '"long": {"start": [1], "end": [2], "text": ["said"]}'
    (own / "twice.json").write_text(f"{{{one}, {one}}}")
    assert opened(own, captions="twice.json").report["duplicate_id"] == 3


def test_videos_in_a_linked_folder_are_found(own, tmp_path):
    shutil.move(own / "videos" / "a", tmp_path / "elsewhere")
    (own / "videos" / "a").symlink_to(tmp_path / "elsewhere")
    assert "long" in list(opened(own).names)
