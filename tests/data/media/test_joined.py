"""Captures joined in one file: pictures, sound and time of a window are of one of them."""

import math

import numpy as np
import pytest

from fgmm.data.media import av_files, joined
from fgmm.data.media.stretch import Stretch
from fgmm.data.preparation import records
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.preparation.records import RecordMaker
from fgmm.data.schema import BadInput, Caption
from tests.data.video_fixture import FPS, RATE, write_video

FORMATS = {
    "a.ts": {"codec": "mpeg2video", "sound_codec": "mp2"},
    "h264.ts": {"codec": "libx264"},
    "a.mpg": {"codec": "mpeg2video", "sound_codec": "mp2"},
    "a.mp4": {},
    "fragments.mp4": {"options": {"movflags": "frag_keyframe+empty_moov+delay_moov"}},
    "a.mkv": {"codec": "libx264"},
    # Written as it was recorded: no lengths, no index.
    "live.mkv": {"codec": "libx264", "options": {"live": "1"}},
    "a.avi": {"sound_codec": "pcm_s16le"},
    "a.flv": {"codec": "flv"},
}


def capture(path, first, seconds, height=48, **options):
    """Second i, from ``first`` on, has a grey and a pitch of its own."""
    pictures = [
        np.full((height, 64, 3), 20 + 15 * (first + i // FPS), np.uint8)
        for i in range(seconds * FPS)
    ]
    time = np.arange(seconds * RATE) / RATE
    sound = 0.5 * np.sin(2 * np.pi * (300 + 100 * (first + np.floor(time))) * time)
    return write_video(path, pictures, sound=sound.astype(np.float32), **options)


def seen_and_heard(media, start):
    """Of which seconds pictures and sound are in the middle of a second."""
    picture = av_files.read_frames(media, start=start + 0.3, seconds=0.5, count=3, size=48)[1]
    sound = av_files.read_sound(media, start=start + 0.3, seconds=0.5)
    pitch = np.abs(np.fft.rfft(sound.samples)).argmax() * sound.rate / len(sound.samples)
    return round((picture.mean() - 20) / 15), round((pitch - 300) / 100)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("order", [(0, 5), (5, 0)])
def test_windows_follow_each_other_from_one_capture_to_the_next(tmp_path, form, order):
    lengths = {0: 3, 5: 4}
    files = [
        capture(tmp_path / f"{first}.{form}", first, lengths[first], **FORMATS[form])
        for first in order
    ]
    path = tmp_path / form
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    header = av_files.read_header(path)
    assert header == (pytest.approx(7.0, abs=0.3), True, True)
    expected = [first + i for first in order for i in range(lengths[first])]
    # A capture may last a little longer than what it shows.
    begins = av_files.read_header(files[0]).duration
    starts = [*range(lengths[order[0]]), *(begins + i for i in range(lengths[order[1]]))]
    assert [seen_and_heard(path, start) for start in starts] == [(i, i) for i in expected]
    assert [seen_and_heard(path.read_bytes(), start) for start in starts[2:4]] == [
        (i, i) for i in expected[2:4]
    ]


def test_a_window_over_the_join_has_the_end_of_one_and_the_beginning_of_the_other(tmp_path):
    one = capture(tmp_path / "one.ts", 0, 2, codec="mpeg2video", sound_codec="mp2")
    other = capture(tmp_path / "other.ts", 8, 2, 96, codec="mpeg2video", sound_codec="mp2")
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    begins = av_files.read_header(one).duration
    window = {"start": begins - 0.5, "seconds": 1.0}
    pictures = av_files.read_frames(both, **window, count=4, size=48)
    assert pictures.shape == (4, 48, 64, 3), "all as large as the first"
    greys = [round((grey - 20) / 15) for grey in pictures.mean(axis=(1, 2, 3))]
    assert greys == [1, 1, 8, 8]
    out = np.zeros((4, 24, 32, 3), np.uint8)
    Stretch(both.read_bytes(), window["start"], 1.0).fill(out)
    assert [round((grey - 20) / 15) for grey in out.mean(axis=(1, 2, 3))] == greys
    sound = av_files.read_sound(both, **window)
    assert sound.samples.shape == (RATE,)
    for part, pitch in ((slice(1000, 7000), 400), (slice(9000, 15000), 1100)):
        spectrum = np.abs(np.fft.rfft(sound.samples[part]))
        assert spectrum.argmax() * RATE / 6000 == pytest.approx(pitch, abs=5)


def test_where_a_clock_goes_back_is_found_by_halves(tmp_path, monkeypatch):
    files = [
        capture(tmp_path / f"{i}.ts", i, 3, codec="mpeg2video", sound_codec="mp2").read_bytes()
        for i in range(3)
    ]
    monkeypatch.setattr(joined, "_LOOKS", 4)
    for stretch in (1 << 20, 188 * 40):
        monkeypatch.setattr(joined, "_STRETCH", stretch)
        for cut in (0, 77):  # what a recorder left unfinished is no whole packet
            parts = [file[: len(file) - cut] for file in files]
            found = joined.parts(b"".join(parts))
            # FFmpeg writes a packet with the service's name before the list of programs.
            assert [len(part) for part in found] == [
                pytest.approx(len(part), abs=2 * 188) for part in parts
            ]


def test_other_packets_of_transport_streams_are_known(tmp_path):
    files = [
        capture(tmp_path / f"{i}.m2ts", i, 2, codec="mpeg2video", sound_codec="mp2", form="mpegts",
                options={"mpegts_m2ts_mode": "1"})
        for i in range(2)
    ]  # fmt: skip
    path = tmp_path / "both.m2ts"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    assert len(joined.parts(path)) == 2
    assert seen_and_heard(path, 3) == (2, 2)


def test_a_clock_that_wraps_is_one_recording(repository):
    path = repository / "tests/data/cases/clock_wraps.ts"
    assert joined.parts(path) == (path,)
    assert av_files.read_header(path).duration == pytest.approx(4.0, abs=0.1)
    for second, grey in enumerate((40, 90, 140, 190)):
        window = {"start": float(second), "seconds": 1.0}
        pictures = av_files.read_frames(path, **window, count=4, size=48)
        assert pictures.mean() == pytest.approx(grey, abs=3)
        assert np.abs(av_files.read_sound(path, **window).samples).max() > 0.1


@pytest.mark.parametrize("form", ["a.ts", "a.mpg"])
@pytest.mark.parametrize("before", [1.7, 59.0])
def test_a_clock_may_wrap_at_any_time(tmp_path, form, before):
    shift = {"options": {"output_ts_offset": str(2**33 / 90_000 - before)}}
    path = capture(tmp_path / form, 0, 3, **FORMATS[form], **shift)
    assert [seen_and_heard(path, start) for start in range(3)] == [(0, 0), (1, 1), (2, 2)]


def test_what_goes_back_in_time_in_a_format_that_is_not_searched_is_not_mixed_in(tmp_path):
    wmv = {"codec": "wmv2", "sound_codec": "mp2"}
    files = [capture(tmp_path / f"{i}.wmv", i, 2, **wmv) for i in (0, 5)]
    path = tmp_path / "both.wmv"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    assert [seen_and_heard(path, start) for start in range(2)] == [(0, 0), (1, 1)]


def test_joined_recordings_are_prepared_as_pieces(tmp_path):
    files = [
        capture(tmp_path / f"{i}.ts", i, 2, codec="mpeg2video", sound_codec="mp2") for i in (0, 5)
    ]
    begins = av_files.read_header(files[0]).duration
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    said = (Caption("one", 0.5, 1.0), Caption("other", begins + 0.25, begins + 1.0))
    for encoding, count in (
        (Encoding(), 2),
        (Encoding(short_side=32, audio_rate=16000), 2),
        (Encoding(short_side=32, piece_seconds=1.0), 4),
    ):
        made = RecordMaker(encoding, 0.0)(RawRecord("v", path, "video", said))
        assert [record.raw.clip_id for record in made] == [f"v/{i}" for i in range(count)]
        other = made[count // 2]
        assert [caption.text for caption in other.raw.captions] == ["other"]
        assert other.raw.captions[0].start == pytest.approx(0.25)
        read = records.features().deserialize_example_np(other.serialized)
        assert seen_and_heard(read["media"], 0) == (5, 5)
        assert math.isclose(read["duration"], 4 / count, abs_tol=0.2)


def test_what_was_joined_and_is_no_recording_is_left_out(tmp_path):
    one = capture(tmp_path / "one.mp4", 3, 2).read_bytes()
    broken = one[:40] + bytes(200)
    assert av_files.read_header(one + broken).duration == pytest.approx(2.0, abs=0.1)
    (record,) = RecordMaker(Encoding(), 0.0)(RawRecord("v", one + broken, "video"))
    assert record.examined.problems == ("unreadable_video",)
    with pytest.raises(BadInput, match="unreadable_video: none of 2 recordings"):
        av_files.read_header(broken[:36] + broken[:36])
