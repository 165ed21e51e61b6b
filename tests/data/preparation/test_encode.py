import contextlib
import fractions
import io
import math

import av
import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.media import av_files
from fgmm.data.preparation import encode
from fgmm.data.preparation.encode import Encoding, encoded
from fgmm.data.schema import BadInput
from tests.data.video_fixture import FPS, RATE, number_of, numbered, sung, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Three seconds, whose pictures say their number and whose sound rises."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    pictures = [numbered(i, 96, 128) for i in range(3 * FPS)]
    return write_video(path, pictures, sound=sung(3.0)).read_bytes()


def opened(data):
    return av.open(io.BytesIO(data))


def key_frames(data):
    with opened(data) as container:
        packets = [p for p in container.demux(video=0) if p.dts is not None]
        return [float(p.pts * p.time_base) for p in packets if p.is_keyframe]


def test_nothing_asked_for_changes_nothing(video):
    assert encoded(video, "video", Encoding()) is video
    assert encoded(b"picture", "image", Encoding(fps=3.0)) == b"picture"


def test_size_rate_and_key_frames(video):
    small = encoded(video, "video", Encoding(short_side=48, fps=10.0, gop_seconds=0.5))
    with opened(small) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 64, 48)
        assert stream.average_rate == 10
        assert stream.frames == 30
    times = key_frames(small)
    assert times[0] == 0
    assert np.diff([*times, 3.0]).max() <= 0.5 + 1e-3
    # A size alone brings key frames each second.
    times = key_frames(encoded(video, "video", Encoding(short_side=48)))
    assert np.diff([*times, 3.0]).max() <= 1 + 1e-3


def test_pictures_keep_their_times(video):
    for encoding in (
        Encoding(short_side=48),
        Encoding(gop_seconds=0.25),
        Encoding(audio_rate=8000),
    ):
        again = encoded(video, "video", encoding)
        for start in (0.0, 0.7, 2.4):
            window = {"start": start, "seconds": 0.5, "count": 10, "size": 48}
            shown = [number_of(picture) for picture in av_files.read_frames(again, **window)]
            assert shown == [
                number_of(picture) for picture in av_files.read_frames(video, **window)
            ]


def test_pictures_are_copied_where_only_sound_is_asked_for(video):
    again = encoded(video, "video", Encoding(audio_rate=16000))
    with opened(video) as before, opened(again) as after:
        packets = [
            [bytes(p) for p in container.demux(video=0) if p.size] for container in (before, after)
        ]
    assert packets[0] == packets[1]


def test_pictures_out_of_matroska_are_copied_from_the_first_one_on(video, monkeypatch):
    # Which has no times of decoding for the first of pictures that refer to later ones.
    monkeypatch.setitem(encode._CONTAINERS, "video", ("matroska",))
    again = encoded(video, "video", Encoding(short_side=48))
    monkeypatch.undo()
    copied = encoded(again, "video", Encoding(audio_rate=16000))
    with opened(copied) as container:
        assert "mp4" in container.format.name
        shown = [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert shown == [*range(3 * FPS)]


@pytest.mark.parametrize("sound_start", [0.0, 0.4])
def test_sound_is_mono_and_stays_in_place(tmp_path, sound_start):
    pictures = [numbered(i) for i in range(2 * FPS)]
    path = write_video(tmp_path / "a.mkv", pictures, sound=sung(1.5), sound_start=sound_start)
    again = encoded(path.read_bytes(), "video", Encoding(audio_rate=8000))
    with opened(again) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.channels, stream.codec_context.name) == (8000, 1, "aac")
    heard = av_files.read_sound(again, start=0.5, seconds=1.0)
    original = av_files.read_sound(path, start=0.5, seconds=1.0)
    assert heard.rate == 8000
    half = original.samples.reshape(-1, RATE // 8000).mean(axis=1)
    lags = range(-80, 81)
    match = [float(np.roll(half, lag)[100:-100] @ heard.samples[100:-100]) for lag in lags]
    # Within a millisecond, where one frame of sound is 128 of them.
    assert abs(lags[int(np.argmax(match))]) <= 8
    assert np.corrcoef(half, heard.samples)[0, 1] > 0.95


def test_sound_alone_stays_lossless(tmp_path):
    path = write_video(tmp_path / "a.wav", sound=sung(1.0), sound_codec="pcm_s16le")
    again = encoded(path.read_bytes(), "audio", Encoding(audio_rate=RATE, short_side=32))
    with opened(again) as container:
        assert container.streams.audio[0].codec_context.name == "flac"
    before, after = (av_files.read_sound(m, start=0.0, seconds=1.0) for m in (path, again))
    np.testing.assert_allclose(after.samples, before.samples, atol=1e-4)


def test_turned_and_stretched_pictures_become_plain(tmp_path):
    picture = numbered(0b10110001, 48, 64)
    for name, options in [
        ("turned", {"rotation": 90}),
        ("stretched", {"aspect": fractions.Fraction(2)}),
    ]:
        path = write_video(tmp_path / f"{name}.mp4", [picture] * 10, **options)
        window = {"start": 0.0, "seconds": 0.4, "count": 1, "size": 24}
        before = av_files.read_frames(path, **window)
        again = encoded(path.read_bytes(), "video", Encoding(short_side=24))
        after = av_files.read_frames(again, **window)
        assert after.shape == before.shape
        assert np.abs(after.astype(float) - before).mean() < 8
        with opened(again) as container:
            stream = container.streams.video[0]
            assert (stream.sample_aspect_ratio or 1) == 1
            assert sorted((stream.width, stream.height)) == sorted(after.shape[1:3])


def test_edge_cases(shared_data):
    """Whatever can be decoded can be encoded again, in step and in the same colours."""
    done = done_sound = 0
    for path in sorted(shared_data("video_edge_cases").glob("*.mp4")):
        data = path.read_bytes()
        window = {"start": 0.2, "seconds": 0.4, "count": 2, "size": 32}
        try:
            before = av_files.read_frames(data, **window).astype(float)
        except BadInput:
            continue
        again = encoded(data, "video", Encoding(gop_seconds=0.5))
        after = av_files.read_frames(again, **window).astype(float)
        assert np.abs(np.subtract(after.shape, before.shape)).max() <= 1, path.name
        if after.shape == before.shape:
            assert np.abs(after - before).mean() < 6, path.name
            assert np.abs(after.mean(axis=(0, 1, 2)) - before.mean(axis=(0, 1, 2))).max() < 3
        with contextlib.suppress(BadInput):
            heard = [av_files.read_sound(m, start=0.2, seconds=0.4) for m in (data, again)]
            # The times of WebM are whole milliseconds.
            if path.name != "webm_named_mp4.mp4":
                np.testing.assert_allclose(heard[1].samples, heard[0].samples, atol=0.02)
            done_sound += 1
        done += 1
    assert done >= 36
    assert done_sound >= 30


def test_broken_files_are_bad_input(video):
    for data in (b"", b"text", video[: len(video) // 4]):
        with pytest.raises(BadInput, match="unreadable_video"):
            encoded(data, "video", Encoding(short_side=16))
        with pytest.raises(BadInput, match="unreadable_video"):
            encoded(data, "image", Encoding(short_side=16))


def test_numbers_that_make_no_sense_are_refused():
    for key, value in [
        ("short_side", -1),
        ("fps", -1.0),
        ("gop_seconds", -0.5),
        ("audio_rate", -1),
        ("piece_seconds", -1.0),
    ]:
        with pytest.raises(ConfigError, match=f"--{key}={value} must be at least 0"):
            Encoding(**{key: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_number_that_means_nothing_is_refused(value):
    with pytest.raises(ConfigError, match=f"--fps={value} must be at least 0, and finite"):
        Encoding(fps=value)
