import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data import pipeline
from fgmm.data.schema import BatchShape, Caption
from fgmm.data.sources.video_folder import Source
from fgmm.data.text import tokenizers
from fgmm.data.text.tokenizers import Tokenizer
from tests.data.video_fixture import FPS, number_of, numbered, sung, write_video

VTT = """WEBVTT

00:00.000 --> 00:00.900
first

00:01.500 --> 00:02.500
second

00:03.000 --> 00:03.500
third
"""


def pictures(seconds):
    return [numbered(i) for i in range(round(seconds * FPS))]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Five seconds with captions and sound; two mute, in a folder; a short one without captions."""
    root = tmp_path_factory.mktemp("corpus") / "videos"
    write_video(root / "long.mp4", pictures(5.0), sound=sung(5.0))
    (root / "long.vtt").write_text(VTT)
    write_video(root / "deep" / "er" / "mute.MKV", pictures(2.0), form="matroska")
    (root / "deep" / "er" / "mute.SRT").write_text("1\n00:00:00,500 --> 00:00:01,000\nHi\n")
    write_video(root / "short.mp4", pictures(0.5), sound=sung(0.5))
    return root


@pytest.fixture
def own(corpus, tmp_path):
    """A copy of the corpus that a test may damage."""
    return shutil.copytree(corpus, tmp_path / "own")


def opened(root, **options):
    return Source(root=str(root), **{"validation": 0.0, "seconds": 1.0, **options})


def clips(source):
    return [source[i] for i in range(len(source))]


def test_videos_are_cut_into_windows_side_by_side(corpus):
    source = opened(corpus)
    assert source.names == ["deep/er/mute.MKV", "long.mp4", "short.mp4"]
    assert len(source) == 2 + 5 + 1
    assert source.report == {"missing_captions": 1}
    for i, clip in enumerate(clips(source)[2:7]):
        assert clip.clip_id == clip.group == "long.mp4"
        shown = clip.video.frames(4, 32)
        assert shown.shape == (4, 32, 43, 3)
        assert [number_of(picture) for picture in shown] == [20 * i + n for n in (2, 7, 12, 17)]
        sound = clip.audio()
        assert len(sound.samples) == sound.rate
        expected = sung(5.0)[i * sound.rate :][2048 : sound.rate]
        np.testing.assert_allclose(sound.samples[2048:], expected, atol=0.03)


def test_what_a_file_lacks_its_clips_lack(corpus):
    mute, *_, short = clips(opened(corpus))
    assert mute.audio is None
    assert mute.captions == (Caption("Hi", 0.5, 1.0),)
    assert short.captions == ()
    assert [number_of(picture) for picture in short.video.frames(4, 32)] == [2, 7, 9, 9]


def test_a_batch_says_how_many_pictures(corpus):
    source = opened(corpus, seconds=2.0)
    assert len(source) == 1 + 2 + 1
    assert [number_of(picture) for picture in source[2].video.frames(3, 32)] == [66, 80, 93]


def texts(source):
    return [[caption.text for caption in clip.captions] for clip in clips(source)]


def test_captions_of_a_window_overlap_it_and_have_its_times(corpus):
    source = opened(corpus)
    assert texts(source)[2:7] == [["first"], ["second"], ["second"], ["third"], []]
    assert source[4].captions == (Caption("second", -0.5, 0.5),)


def test_near_captions_fill_up_a_bag(corpus):
    found = texts(opened(corpus, candidates=2))[2:7]
    assert found == [
        ["first", "second"],
        ["first", "second"],
        ["second", "third"],
        ["second", "third"],
        ["second", "third"],
    ]
    near = texts(opened(corpus, candidates=2, reach=0.55))[2:7]
    assert near == [
        ["first", "second"],
        ["first", "second"],
        ["second", "third"],
        ["second", "third"],
        ["third"],
    ]
    assert texts(opened(corpus, candidates=9))[3] == ["first", "second", "third"]


def test_a_broken_caption_file_costs_its_captions_alone(own):
    (own / "long.vtt").write_bytes(b"\xff\x00\x80")
    (own / "short.srt").write_text(
        "1\n00:00:00,0x0 --> 00:00:01,000\nbad\n\n2\n00:00:00,000 --> 00:00:00,400\ngood\n"
    )
    source = opened(own)
    assert len(source) == 8
    assert source.report == {"unreadable_captions": 1, "malformed_line": 1}
    assert texts(source)[2:] == [[]] * 5 + [["good"]]
    (own / "long.srt").write_text("1\n00:00:00,000 --> 00:00:05,000\ninstead\n")
    assert texts(opened(own))[2:7] == [["instead"]] * 5


def test_captions_as_json_lines(own):
    (own / "short.jsonl").write_text('{"text": "[Music] told in JSON", "start": 0, "end": 0.4}\n')
    source = opened(own)
    assert not source.report
    assert clips(source)[-1].captions == (Caption("told in JSON", 0.0, 0.4),)


def test_unreadable_videos_are_left_out_and_counted(own):
    whole = (own / "long.mp4").read_bytes()
    (own / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    (own / "empty.mp4").write_bytes(b"")
    (own / "text.avi").write_text("not a video")
    (own / "._long.mp4").write_bytes(b"what a file system left")
    write_video(own / "song.mp4", sound=sung(1.0))
    source = opened(own)
    assert source.names == ["deep/er/mute.MKV", "long.mp4", "short.mp4"]
    assert source.report == {"unreadable_video": 3, "no_video": 1, "missing_captions": 1}


def test_batches_mask_what_is_missing_and_count_it(own):
    # The header is whole, the rest is not: only reading it tells.
    write_video(own / "cut.mp4", pictures(5.0), sound=sung(5.0), options={"movflags": "faststart"})
    whole = (own / "cut.mp4").read_bytes()
    (own / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    source = opened(own, seconds=2.0)
    assert source.names == ["cut.mp4", "deep/er/mute.MKV", "long.mp4", "short.mp4"]
    shape = BatchShape(
        frames=4,
        height=16,
        width=16,
        samples=1000,
        sample_rate=500,
        captions=2,
        phrases=4,
        tokens=8,
    )
    model = tokenizers.path_of("narrated_shapes")
    assembler = pipeline.Assembler(source, shape, Tokenizer(model), "function_words")
    ((batch, clips),) = pipeline.evaluation_batches(assembler, 6)
    assert clips == 6
    np.testing.assert_array_equal(batch["video_mask"], [1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(batch["audio_mask"], [1, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        batch["text_mask"], [[0, 0], [0, 0], [1, 0], [1, 1], [1, 0], [0, 0]]
    )
    assert (batch["audio"][3] != 0).any()
    counts = pipeline.count_problems(batch["problems"])
    assert counts == {"unreadable_video": 1, "no_audio": 2, "no_captions": 3}


def test_the_split_goes_by_the_names_of_files(tmp_path):
    (video := tmp_path / "one").mkdir()
    original = write_video(video / "0.mp4", pictures(0.2))
    for i in range(1, 40):
        shutil.copy(original, video / f"{i}.mp4")
    parts = {
        split: opened(video, split=split, validation=0.3).names for split in ("train", "validation")
    }
    assert sorted(parts["train"] + parts["validation"]) == sorted(f"{i}.mp4" for i in range(40))
    assert 5 <= len(parts["validation"]) <= 19
    for i in range(0, 40, 3):
        (video / f"{i}.mp4").unlink()
    shutil.move(video, tmp_path / "other")
    again = opened(tmp_path / "other", split="validation", validation=0.3)
    assert set(again.names) == {n for n in parts["validation"] if int(n[:-4]) % 3}
    larger = opened(tmp_path / "other", split="validation", validation=0.6)
    assert set(again.names) < set(larger.names)


def test_can_be_pickled_and_read_by_many_threads(corpus):
    source = opened(corpus)
    other = pickle.loads(pickle.dumps(source))
    indices = list(range(len(source))) * 3
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: other[i].video.frames(4, 32), indices))
    for index, shown in zip(indices, read, strict=True):
        np.testing.assert_array_equal(shown, source[index].video.frames(4, 32))


def test_wrong_roots_are_named(corpus, tmp_path):
    for root, error in [
        (tmp_path / "nowhere", "does not exist; give a folder"),
        ("", "root='' does not exist"),
        (corpus / "long.mp4", "is no folder"),
        (tmp_path, "holds no video; known endings: .*mp4"),
    ]:
        with pytest.raises(ConfigError, match=error):
            opened(root)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ConfigError, match="no readable video in split 'train': unreadable_video 1"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"split": "test"}, "split='test' is unknown; allowed: train, validation"),
        ({"split": "validation"}, "none of its 3 videos is in split 'validation'"),
        ({"validation": -0.1}, "validation=-0.1 must be from 0 to 1"),
        ({"seconds": 0.0}, "seconds=0.0 must be above 0"),
        ({"candidates": -1}, "candidates=-1 must be at least 0"),
        ({"reach": -1.0}, "reach=-1.0"),
    ],
)
def test_wrong_options_are_refused(corpus, options, error):
    with pytest.raises(ConfigError, match=error):
        opened(corpus, **options)


def spoken_in(own, language):
    return f"WEBVTT\n\n00:00.000 --> 00:05.000\nspoken in {language}\n"


def test_captions_are_named_with_a_language(own, caplog):
    (own / "long.vtt").unlink()
    for name in ("long.en.vtt", "long.de.VTT", "short.de.Vtt", "short.pt_BR.vtt"):
        (own / name).write_text(spoken_in(own, name.split(".")[1]))

    def said(**options):
        source = opened(own, **options)
        found = {clip.clip_id: "" for clip in clips(source)}
        return found | {c.clip_id: c.captions[0].text for c in clips(source) if c.captions}

    with caplog.at_level("ERROR"):
        # Most files are in German; one beside the mute video has no language in its name.
        assert said() == {
            "deep/er/mute.MKV": "Hi",
            "long.mp4": "spoken in de",
            "short.mp4": "spoken in de",
        }
    assert "by language: none 1, de 2, en 1, pt_br 1; of a video, one without, then de" in (
        caplog.text
    )
    assert said(language="pt")["short.mp4"] == "spoken in pt_BR"
    assert said(language="PT-br")["short.mp4"] == "spoken in pt_BR"
    assert said(language="en") == {
        "deep/er/mute.MKV": "",
        "long.mp4": "spoken in en",
        "short.mp4": "",
    }
    with pytest.raises(ConfigError, match="language='fr' is in the name of no caption file in"):
        opened(own, language="fr")
    # What is asked for exactly comes before another form of it.
    (own / "long.en-US.vtt").write_text(spoken_in(own, "en-US"))
    assert said(language="en")["long.mp4"] == "spoken in en"
    assert said(language="en-US")["long.mp4"] == "spoken in en-US"
    prepared = sorted(record.captions[0].text for record in opened(own).raw())
    assert prepared == ["Hi", "spoken in de", "spoken in de"]


def test_captions_belong_to_the_video_with_the_longest_name(own):
    shutil.copy(own / "short.mp4", own / "long.en.mp4")
    (own / "long.en.vtt").write_text(spoken_in(own, "its own video"))
    found = {clip.clip_id: clip.captions for clip in clips(opened(own))}
    assert found["long.en.mp4"][0].text == "spoken in its own video"
    (own / "long.vtt").unlink()
    found = {clip.clip_id: clip.captions for clip in clips(opened(own))}
    assert found["long.mp4"] == ()
    (own / "short.part2.vtt").write_text(spoken_in(own, "part 2"))
    assert opened(own).report == {"missing_captions": 2}, "part2 is no language"


def test_videos_in_linked_folders_have_their_captions(own, tmp_path):
    shutil.move(own / "deep", tmp_path / "elsewhere")
    (own / "deep").symlink_to(tmp_path / "elsewhere")
    (own / "again").symlink_to(own)
    source = opened(own)
    assert source.names == ["deep/er/mute.MKV", "long.mp4", "short.mp4"]
    assert source[0].captions == (Caption("Hi", 0.5, 1.0),)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.99])
def test_of_a_few_videos_both_splits_have_one(share, tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.mp4").touch()
    options = {"root": str(tmp_path), "validation": share, "opened": False}
    validation = list(Source(split="validation", **options)._listed.names)
    train = list(Source(**options)._listed.names)
    assert sorted(validation + train) == [f"{number}.mp4" for number in range(6)]
    assert len(validation) == {0.01: 1, 0.1: 1, 0.99: 5}[share]
    everything = Source(**options | {"validation": 0.0})._listed.names
    assert len(everything) == 6


def test_the_folder_may_be_below_the_home_folder(corpus, monkeypatch):
    monkeypatch.setenv("HOME", str(corpus.parent))
    assert opened("~/videos").names == opened(corpus).names
