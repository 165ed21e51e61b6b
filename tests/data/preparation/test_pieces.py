"""Pieces of recordings: what is cut apart can be put together again."""

import math

import numpy as np
import pytest

from fgmm.data.media import av_files
from fgmm.data.preparation import encode, pieces, records
from fgmm.data.preparation.encode import Encoding, encoded
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.preparation.records import RecordMaker
from fgmm.data.schema import Caption
from tests.data.preparation.test_encode import key_frames, opened
from tests.data.video_fixture import FPS, RATE, number_of, numbered, sung, write_video

SECONDS = 7.5


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Seconds, whose pictures say their number and whose sound rises."""
    path = tmp_path_factory.mktemp("video") / "video.mkv"
    pictures = [numbered(i) for i in range(round(SECONDS * FPS))]
    return write_video(path, pictures, sound=sung(SECONDS)).read_bytes()


def numbers(data):
    """The number of each picture of a file."""
    with opened(data) as file:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


# Sound encoded again, and copied: into MP4, and into Matroska as what does not fit into that.
@pytest.mark.parametrize(("audio_rate", "form"), [(RATE, "mp4"), (0, "mp4"), (0, "matroska")])
def test_no_picture_and_no_sound_is_lost_or_doubled(tmp_path, monkeypatch, audio_rate, form):
    monkeypatch.setitem(encode._CONTAINERS, "video", (form,))
    # So that cuts are not at whole seconds.
    times = [3 * i / FPS for i in range(round(SECONDS * FPS / 3))]
    path = write_video(
        tmp_path / "a.mkv",
        [numbered(i) for i in range(len(times))],
        times=times,
        sound=sung(SECONDS),
    )
    whole = encoded(
        path.read_bytes(), "video", Encoding(48, audio_rate=audio_rate, piece_seconds=2.0)
    )
    cut = [*pieces.cut(whole, "video", 2.0)]
    assert cut == [*pieces.cut(whole, "video", 2.0)]
    assert [piece.start for piece in cut] == pytest.approx([0.0, 2.1, 4.05, 6.0], abs=0.002)
    assert [piece.end for piece in cut] == [*(piece.start for piece in cut[1:]), math.inf]
    shown = [number for piece in cut for number in numbers(piece.data)]
    assert shown == numbers(whole) == [*range(len(times))]
    for piece in cut:
        with opened(piece.data) as file:
            assert form in file.format.name
        assert key_frames(piece.data)[0] == 0 or form == "matroska"
        length = min(piece.end, SECONDS) - piece.start
        assert av_files.read_header(piece.data).duration == pytest.approx(length, abs=0.15)
        before = av_files.read_sound(whole, start=piece.start, seconds=length).samples
        after = av_files.read_sound(piece.data, start=0.0, seconds=length).samples
        if form == "mp4":
            np.testing.assert_allclose(after, before, atol=1e-4)
        else:
            # Times are whole milliseconds, and the packet that began before the cut is not there.
            lags = range(-32, 33)
            off = [np.abs(np.roll(after, lag) - before)[RATE // 4 : -32].max() for lag in lags]
            assert min(off) < 1e-4
        window = {"seconds": 1.2, "count": 8, "size": 48}
        shown = [
            [*map(number_of, av_files.read_frames(data, start=start, **window))]
            for data, start in ((whole, piece.start), (piece.data, 0.0))
        ]
        assert shown[0] == shown[1]


def test_sound_alone_is_cut_to_a_sample(tmp_path):
    path = write_video(tmp_path / "a.wav", sound=sung(SECONDS), sound_codec="pcm_s16le")
    whole = encoded(path.read_bytes(), "audio", Encoding(audio_rate=RATE))
    cut = [*pieces.cut(whole, "audio", 2.0)]
    lengths = [av_files.read_header(piece.data).duration for piece in cut]
    assert lengths == [2.0, 2.0, 2.0, 1.5]
    heard = [
        av_files.read_sound(piece.data, start=0.0, seconds=length).samples
        for piece, length in zip(cut, lengths, strict=True)
    ]
    before = av_files.read_sound(whole, start=0.0, seconds=SECONDS).samples
    np.testing.assert_array_equal(np.concatenate(heard), before)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(5.0, [0.0, 5.0]), (5.2, []), (3.0, [0.0, 3.0, 6.0]), (3.2, [0.0, 3.2]), (60.0, [])],
)
def test_the_last_piece_is_half_as_long_at_least(video, seconds, starts):
    whole = encoded(video, "video", Encoding(fps=20.0, piece_seconds=seconds))
    cut = [*pieces.cut(whole, "video", seconds)]
    assert [piece.start for piece in cut] == pytest.approx(starts, abs=1 / FPS)


def test_pieces_are_records_with_what_is_known(tmp_path):
    # Pictures for 5 s, and sound that ends before.
    path = write_video(tmp_path / "a.mp4", [numbered(i) for i in range(5 * FPS)], sound=sung(1.9))
    spoken = (
        Caption("one", 0.5, 1.0),
        Caption("over", 1.5, 2.5),
        Caption("two", 2.0, 2.0),
        Caption("past", 6.0, 7.0),
    )
    raw = RawRecord("a", path, "video", spoken, {"action": 3}, "", {"malformed_line": 2})
    making = RecordMaker(Encoding(gop_seconds=1.0, audio_rate=RATE, piece_seconds=2.0), 0.0)
    made = making(raw)
    read = [records.features().deserialize_example_np(record.serialized) for record in made]
    assert [one["clip_id"] for one in read] == [b"a/0", b"a/1", b"a/2"]
    assert {one["group"] for one in read} == {b"a"}
    assert [float(one["duration"]) for one in read] == pytest.approx([2.0, 2.0, 1.0], abs=0.06)
    assert [bool(one["has_audio"]) for one in read] == [True, False, False]
    assert {one["labels"]["value"][0] for one in read} == {3}
    said = [list(one["captions"]["text"]) for one in read]
    assert said == [[b"one", b"over"], [b"over", b"two"], [b"past"]]
    assert list(read[1]["captions"]["start"]) == [-0.5, 0.0]
    # The group of a recording stays; captions without an end are of the whole recording.
    named = raw._replace(group="g", captions=(Caption("all", 0.0, math.inf),))
    (_, second, _) = making(named)
    assert (second.raw.group, second.raw.captions) == ("g", named.captions)


def test_sound_without_pictures_is_no_piece_of_a_video(tmp_path):
    pictures = [numbered(i) for i in range(FPS)]
    path = write_video(tmp_path / "a.mp4", pictures, sound=sung(4.0))
    making = RecordMaker(Encoding(fps=10.0, audio_rate=RATE, piece_seconds=2.0), 0.0)
    (record,) = making(RawRecord("a", path, "video"))
    assert record.raw.clip_id == "a"
    assert record.examined.duration == pytest.approx(4.0, abs=0.1)


def test_pictures_and_copied_video_stay_whole(video):
    cutting = Encoding(audio_rate=RATE, piece_seconds=2.0)
    (record,) = RecordMaker(cutting, 0.0)(RawRecord("a", video, "video"))
    assert (record.raw.clip_id, record.raw.group) == ("a", "")
    assert not cutting.again("image")
