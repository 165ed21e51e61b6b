import contextlib
import fractions
import io
import os
import time
import types
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest

from fgmm.data.media import av_files, deadline
from fgmm.data.preparation.encode import Encoding, encoded
from fgmm.data.schema import BadInput
from tests.data.video_fixture import (
    FPS,
    RATE,
    number_of,
    numbered,
    read_all,
    reason,
    sung,
    write_video,
)

SECONDS = 4.0
PICTURES = [numbered(i) for i in range(round(SECONDS * FPS))]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("media") / "a.mp4", PICTURES, sound=sung(SECONDS))


def numbers(file, start, seconds, count, size=1000):
    pictures = av_files.read_frames(file, start=start, seconds=seconds, count=count, size=size)
    return [number_of(picture) for picture in pictures]


@pytest.mark.parametrize("start", [0.0, 0.37, 1.5, 2.0])
def test_pictures_are_those_on_display_in_the_middle_of_equal_stretches(video, start):
    expected = [int((start + (i + 0.5) * 0.2) * FPS + 1e-6) for i in range(10)]
    assert numbers(video, start, 2.0, 10) == expected
    assert numbers(video.read_bytes(), start, 2.0, 10) == expected


@pytest.mark.parametrize("start", [0.0, 0.37, 1.5, 2.0])
def test_sound_is_that_of_the_window(video, start):
    sound = av_files.read_sound(video, start=start, seconds=1.5)
    expected = sung(SECONDS)[round(start * RATE) :][: round(1.5 * RATE)]
    assert sound.rate == RATE
    assert sound.samples.shape == expected.shape
    # The first packet of a compressed sound has nothing before it to overlap with.
    compared = slice(2048 if start == 0 else 0, None)
    np.testing.assert_allclose(sound.samples[compared], expected[compared], atol=0.01)


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec", "options"),
    [
        ("a.mkv", "mpeg4", "pcm_s16le", None),
        # Written as it was recorded: no duration, no index.
        ("a.mkv", "mpeg4", "pcm_s16le", {"live": "1"}),
        ("a.avi", "ffv1", "pcm_s16le", None),
        ("a.mp4", "mpeg4", "aac", {"movflags": "frag_keyframe+empty_moov+delay_moov"}),
    ],
)
def test_other_formats_seek_as_well(tmp_path, name, codec, sound_codec, options):
    video = write_video(
        tmp_path / name,
        PICTURES,
        sound=sung(SECONDS),
        codec=codec,
        sound_codec=sound_codec,
        options=options,
    )
    assert av_files.read_header(video).duration == pytest.approx(SECONDS, abs=0.1)
    for start in (0.0, 2.3):
        assert numbers(video, start, 1.0, 4) == [
            int((start + (i + 0.5) * 0.25) * FPS + 1e-6) for i in range(4)
        ]
        sound = av_files.read_sound(video, start=start, seconds=1.0).samples[2048:]
        expected = sung(SECONDS)[round(start * RATE) + 2048 :][: len(sound)]
        np.testing.assert_allclose(sound, expected, atol=0.02)


def test_a_transport_stream_begins_at_zero_whatever_its_clock_says(tmp_path):
    """Its packets are stamped from 1.4 s on."""
    video = write_video(tmp_path / "a.ts", PICTURES, codec="mpeg2video")
    header = av_files.read_header(video)
    assert header.duration == pytest.approx(SECONDS, abs=0.1)
    assert numbers(video, 1.0, 1.0, 4) == [22, 27, 32, 37]


def test_frames_of_uneven_times_stay_until_the_next_one(tmp_path):
    video = write_video(
        tmp_path / "a.mkv", [numbered(i) for i in range(4)], times=[0.0, 1.0, 1.1, 5.0]
    )
    assert numbers(video, 0.0, 5.5, 11) == [0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 3]
    assert numbers(video, 2.0, 1.0, 2) == [2, 2], "the window lies in a gap"


def test_before_the_first_frame_the_first_is_shown_and_after_the_last_the_last(tmp_path):
    video = write_video(
        tmp_path / "a.mp4",
        [numbered(i + 1) for i in range(10)],
        times=[0.5 + i / FPS for i in range(10)],
        sound=sung(2.0),
    )
    assert numbers(video, 0.0, 2.0, 8) == [1, 1, 3, 8, 10, 10, 10, 10]
    assert numbers(video, 1.5, 0.5, 2) == [10, 10]


# Samples that the sound codecs used here put into a frame.
AUDIO_FRAME = 1024


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec"),
    [
        ("a.mp4", "mpeg4", "aac"),
        ("a.mp4", "libx264", "aac"),
        ("a.mkv", "libx264", "pcm_s16le"),
        ("a.ts", "mpeg2video", "mp2"),
    ],
)
def test_a_flash_and_a_beep_stay_together(tmp_path, name, codec, sound_codec):
    """Both happen at 1.6 s, wherever the window begins."""
    happens = 1.6
    pictures = [np.full((48, 64, 3), 255 * (i / FPS >= happens), np.uint8) for i in range(3 * FPS)]
    sound = np.where(np.arange(3 * RATE) < happens * RATE, 0, sung(3.0))
    video = write_video(
        tmp_path / name,
        pictures,
        sound=sound.astype(np.float32),
        codec=codec,
        sound_codec=sound_codec,
    )
    for start in (0.3, 0.33, 0.95, 1.5):
        window = {"start": start, "seconds": 1.4}
        heard = av_files.read_sound(video, **window)
        loud = np.abs(heard.samples) > 0.1
        assert loud.any()
        beep = np.argmax(loud) / heard.rate
        shown = av_files.read_frames(video, **window, count=140, size=48).mean(axis=(1, 2, 3)) > 127
        flash = (np.argmax(shown) + 0.5) / 100
        assert shown.any()
        assert not shown[0]
        for happened in (start + flash, start + beep):
            assert abs(happened - happens) <= AUDIO_FRAME / RATE
        assert abs(flash - beep) <= AUDIO_FRAME / RATE


@pytest.mark.parametrize("shift", [-0.5, -0.25, 0.25])
def test_time_stamps_may_be_negative_or_begin_late(tmp_path, shift):
    """What is stamped before zero is not played; a file that begins later begins there."""
    video = write_video(
        tmp_path / "a.mkv",
        PICTURES,
        times=[i / FPS + shift for i in range(len(PICTURES))],
        options={"avoid_negative_ts": "disabled"},
    )
    with av.open(str(video)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert min(stamps) == round(1000 * shift)
    for start in (0.3, 1.0, 2.2):
        moments = [start + (i + 0.5) * 0.25 for i in range(4)]
        assert numbers(video, start, 1.0, 4) == [
            int((moment - min(0, shift)) * FPS + 1e-6) for moment in moments
        ]


def test_pictures_without_time_stamps_follow_each_other(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mkv", PICTURES, codec="mpeg2video")
    packets = av_files._packets

    def of_key_frames_alone(container):
        for packet in packets(container):
            if not packet.is_keyframe:
                packet.pts = packet.dts = None
            yield packet

    monkeypatch.setattr(av_files, "_packets", of_key_frames_alone)
    for start in (0.02, 1.32):
        moments = [start + (i + 0.5) * 0.1 for i in range(20)]
        assert numbers(video, start, 2.0, 20) == [int(m * FPS + 1e-6) for m in moments]


def test_late_short_and_missing_sound(tmp_path):
    video = write_video(tmp_path / "a.mkv", PICTURES, sound=sung(1.0), sound_start=0.75)
    sound = av_files.read_sound(video, start=0.0, seconds=2.5).samples
    assert sound.shape == (2.5 * RATE,)
    np.testing.assert_array_equal(sound[: round(0.7 * RATE)], 0)
    np.testing.assert_array_equal(sound[round(1.9 * RATE) :], 0)
    heard = slice(round(0.9 * RATE), round(1.7 * RATE))
    expected = sung(1.0)[round(0.15 * RATE) :][: round(0.8 * RATE)]
    # Matroska counts in milliseconds, 16 samples: the pitch is told apart, not the phase.
    spectrum = np.abs(np.fft.rfft(sound[heard])), np.abs(np.fft.rfft(expected))
    np.testing.assert_allclose(spectrum[0], spectrum[1], atol=0.02 * spectrum[1].max())
    assert reason(av_files.read_sound, video, start=2.5, seconds=1.0) == "no_audio"
    mute = write_video(tmp_path / "mute.mp4", PICTURES[:5])
    assert av_files.read_header(mute) == av_files.Header(pytest.approx(0.25), True, False)
    assert reason(av_files.read_sound, mute, start=0.0, seconds=1.0) == "no_audio"


def test_sound_alone(tmp_path):
    song = write_video(tmp_path / "a.wav", sound=sung(1.0), sound_codec="pcm_s16le")
    assert av_files.read_header(song) == av_files.Header(1.0, False, True)
    sound = av_files.read_sound(song, start=0.25, seconds=0.5)
    np.testing.assert_allclose(sound.samples, sung(1.0)[4000:12000], atol=1e-4)
    assert reason(av_files.read_frames, song, start=0.0, seconds=1.0, count=2, size=8) == "no_video"


@pytest.mark.parametrize(("layout", "channels"), [("stereo", 2), ("7.1", 8), ("hexadecagonal", 16)])
def test_channels_are_averaged(tmp_path, layout, channels):
    path = tmp_path / "a.mkv"
    silent = np.zeros(RATE, np.float32)
    interleaved = np.stack([sung(1.0), *[silent] * (channels - 1)], axis=1).reshape(1, -1)
    with av.open(str(path), "w") as container:
        # Its decoder hands out every channel apart, as those of most compressed sound do.
        stream = container.add_stream("wavpack", rate=RATE)
        stream.layout, stream.format = layout, "fltp"
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.rate, frame.pts = RATE, 0
        planar = av.AudioResampler(format="fltp").resample(frame)
        for packet in [*(p for part in planar for p in stream.encode(part)), *stream.encode(None)]:
            container.mux(packet)
    sound = av_files.read_sound(path, start=0.0, seconds=1.0)
    np.testing.assert_allclose(sound.samples, sung(1.0) / channels, atol=1e-4)


def test_pictures_are_shrunk_to_the_shorter_side_and_never_enlarged(tmp_path):
    large = write_video(tmp_path / "large.mp4", [numbered(i, 96, 160) for i in range(5)])
    read = av_files.read_frames(large, start=0.0, seconds=0.25, count=5, size=32)
    assert read.shape == (5, 32, 53, 3)
    assert [number_of(picture) for picture in read] == [0, 1, 2, 3, 4]
    assert av_files.read_frames(large, start=0.0, seconds=0.2, count=1, size=500).shape[1:3] == (
        96,
        160,
    )


def test_pictures_are_upright(tmp_path):
    for degrees in (90, 180, -90):
        turned = write_video(
            tmp_path / f"{degrees}.mp4", [numbered(5, 48, 96)] * 3, rotation=degrees
        )
        (picture,) = av_files.read_frames(turned, start=0.0, seconds=0.1, count=1, size=24)
        assert picture.shape == ((24, 48, 3) if degrees == 180 else (48, 24, 3))
        assert number_of(np.rot90(picture, -degrees // 90)) == 5


# What a display matrix says (a, b, c, d), and the same as an operation on the picture.
MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): np.rot90,
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("encoding", [None, Encoding(short_side=24), Encoding(audio_rate=8000)])
def test_pictures_are_mirrored_as_the_display_matrix_says(tmp_path, matrix, encoding):
    a, b, c, d = (value << 16 for value in matrix)
    matrix_of_file = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    coded = numbered(0b01101001, 48, 96)
    turned = write_video(tmp_path / "a.mp4", [coded] * 3, sound=sung(0.2), matrix=matrix_of_file)
    media = encoded(turned.read_bytes(), "video", encoding) if encoding else turned
    expected = MATRICES[matrix](coded)
    (picture,) = av_files.read_frames(media, start=0.0, seconds=0.1, count=1, size=48)
    out = np.zeros((1, *expected.shape), np.uint8)
    av_files.fill_frames(media, out, start=0.0, seconds=0.1)
    for shown in (picture, out[0]):
        height, width = shown.shape[:2]
        assert (height < width) == (expected.shape[0] < expected.shape[1])
        rows = np.arange(height) * expected.shape[0] // height
        columns = np.arange(width) * expected.shape[1] // width
        difference = shown.astype(int) - expected[rows][:, columns]
        assert np.abs(difference).mean() < 30


@pytest.mark.parametrize(
    ("name", "corners"),
    [
        ("hflip", (90, 20, 230, 160)),
        ("vflip", (160, 230, 20, 90)),
        ("transpose", (20, 160, 90, 230)),
    ],
)
def test_mirrored_video_of_cameras(repository, name, corners):
    path = repository / f"tests/data/cases/{name}.mp4"
    (picture,) = av_files.read_frames(path, start=0.0, seconds=0.1, count=1, size=48)
    shown = picture.mean(axis=-1)[[4, 4, -4, -4], [4, -4, 4, -4]]
    np.testing.assert_allclose(shown, corners, atol=4)


@pytest.mark.parametrize(("aspect", "shape"), [("3/2", (24, 72)), ("2/3", (36, 48))])
def test_pixels_become_square(tmp_path, aspect, shape):
    pictures = [numbered(9, 48, 96)] * 3
    video = write_video(tmp_path / "a.mp4", pictures, aspect=fractions.Fraction(aspect))
    (picture,) = av_files.read_frames(video, start=0.0, seconds=0.1, count=1, size=min(shape))
    assert picture.shape == (*shape, 3)
    assert number_of(picture) == 9


def test_damage_is_bad_input_with_its_reason(video, tmp_path):
    data = video.read_bytes()
    window = {"start": 0.0, "seconds": 1.0}
    assert read_all(b"") == ["unreadable_video", "unreadable_video", "unreadable_audio"]
    assert read_all(b"no video at all, but text\n" * 50)[:2] == ["unreadable_video"] * 2
    assert read_all(data[: len(data) // 2])[0] == "unreadable_video", "the index is at the end"
    missing = tmp_path / "missing.mp4"
    assert read_all(missing) == ["missing_file"] * 3
    assert read_all(tmp_path) == ["missing_file"] * 3
    os.mkfifo(tmp_path / "pipe.mp4")
    assert read_all(tmp_path / "pipe.mp4") == ["missing_file"] * 3
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{video.name}'\n")
    assert reason(av_files.read_frames, playlist, **window, count=1, size=8) == "unreadable_video"


def test_random_damage_never_raises_anything_else(video):
    data = video.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(len(damaged), size=int(rng.integers(1, 300)))
        damaged[places] = rng.integers(256, size=len(places))
        for read in read_all(damaged[: int(rng.integers(1, len(damaged) + 1))].tobytes()):
            if isinstance(read, np.ndarray):
                assert read.shape[0] == 2


def test_what_is_cut_off_is_not_filled_up(tmp_path):
    video = write_video(
        tmp_path / "a.mp4", PICTURES, sound=sung(SECONDS), options={"movflags": "faststart"}
    )
    data = video.read_bytes()
    cut = data[: len(data) // 2]
    assert av_files.read_header(cut).duration == pytest.approx(SECONDS, abs=0.1)
    assert numbers(cut, 0.0, 1.0, 4) == [2, 7, 12, 17]
    options = {"count": 4, "size": 16}
    assert (
        reason(av_files.read_frames, cut, start=3.0, seconds=1.0, **options) == "unreadable_video"
    )
    assert reason(av_files.read_sound, cut, start=3.0, seconds=1.0) in (
        "no_audio",
        "unreadable_audio",
    )


def garbage(path, packets):
    """A file without an index or a length, of packets that are no video."""
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.encode(av.VideoFrame.from_ndarray(PICTURES[0]))
        for number in range(packets):
            packet = av.Packet(b"\0\0\1\1\1")
            packet.stream, packet.time_base = stream, fractions.Fraction(1, 1000)
            packet.pts = packet.dts = number * 50
            packet.is_keyframe = number % 50 == 0
            container.mux(packet)
    return path


def too_slow(limit, read, *arguments, **options):
    """Whether reading ends with that reason, and not much later than it should."""
    start = time.monotonic()
    with deadline.within(limit):
        found = reason(read, *arguments, **options)
    return found == "too_slow" and time.monotonic() - start < limit + 1


def test_a_search_through_packets_without_end_is_given_up(tmp_path):
    file = garbage(tmp_path / "a.mkv", 20_000)
    window = {"start": 9.0, "seconds": 1.0}
    assert too_slow(0.05, av_files.read_frames, file, **window, count=4, size=16)
    assert too_slow(0.01, av_files.read_header, file), "its length is that of its packets"


def test_packets_of_another_stream_are_not_read_without_end(tmp_path):
    video = write_video(tmp_path / "a.mkv", PICTURES, sound=sung(SECONDS))
    with deadline.within(0.02), av_files.opened(video, "unreadable_audio") as container:
        time.sleep(0.03)
        sound = av_files.first_audio(container)
        with pytest.raises(BadInput, match="too_slow"):
            next(av_files.decoded(container, sound))


def test_slow_reading_is_given_up(video, monkeypatch):
    data = video.read_bytes()

    class Slow(io.BytesIO):
        opened = False

        def read(self, size):
            time.sleep(0.02 if self.opened else 0)
            return super().read(min(size, 500))

    opened = av_files.opened

    @contextlib.contextmanager
    def then_slow(*arguments):
        Slow.opened = False
        with opened(*arguments) as container:
            Slow.opened = True
            yield container

    monkeypatch.setattr(av_files, "io", types.SimpleNamespace(BytesIO=Slow))
    monkeypatch.setattr(av_files, "opened", then_slow)
    window = {"start": 1.0, "seconds": 3.0}
    assert too_slow(0.1, av_files.read_frames, data, **window, count=4, size=16)
    assert too_slow(0.1, av_files.read_sound, data, **window)


def test_waiting_for_data_is_interrupted(video):
    """Of a path, which FFmpeg reads by itself: it asks before it reads."""
    with deadline.within(1e-9), pytest.raises(BadInput, match="too_slow") as caught:
        av_files.read_header(video)
    assert isinstance(caught.value.__context__, av.error.ExitError)


def test_pictures_of_absurd_size_are_refused(video, monkeypatch):
    monkeypatch.setattr(av_files, "_MAX_PIXELS", 1000)
    options = {"start": 0.0, "seconds": 1.0, "count": 1, "size": 8}
    assert reason(av_files.read_frames, video, **options) == "unreadable_video"


def test_a_duration_beyond_belief_is_damage(video, monkeypatch):
    size = video.stat().st_size
    monkeypatch.setattr(av_files, "_LEAST_BYTES_A_SECOND", size / 3.9)
    assert reason(av_files.read_header, video) == "unreadable_video"
    monkeypatch.setattr(av_files, "_LEAST_BYTES_A_SECOND", size / 4.1)
    assert av_files.read_header(video.read_bytes()).duration == pytest.approx(SECONDS)


def test_threads_do_not_disturb_each_other(video):
    starts = [0.1 * i for i in range(20)] * 3
    read = lambda start: numbers(video, start, 1.0, 4, size=16)  # noqa: E731
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, starts)) == [read(start) for start in starts]


def test_sound_of_an_absurd_rate_is_damage(tmp_path):
    file = write_video(tmp_path / "a.wav", sound=sung(1.0), sound_codec="pcm_s16le")
    data = bytearray(file.read_bytes())
    place = data.index(b"fmt ") + 12
    assert data[place : place + 4] == (16_000).to_bytes(4, "little")
    data[place : place + 4] = (2**31 - 1).to_bytes(4, "little")
    # At that rate a window of an hour would have eight million million samples.
    assert reason(av_files.read_sound, bytes(data), start=0.0, seconds=3600.0) == "unreadable_audio"


def test_a_file_that_is_slow_to_open_is_not_opened_again(video, monkeypatch):
    data = video.read_bytes()
    monkeypatch.setattr(av_files, "_slow", set())
    monkeypatch.setattr(av_files, "_OPENING_LIMIT", 0.0)
    window = {"start": 0.0, "seconds": 1.0}
    for file in (video, data):
        assert reason(av_files.read_header, file) == "too_slow"
    monkeypatch.setattr(av_files, "_OPENING_LIMIT", 60.0)
    for file in (video, data):
        assert reason(av_files.read_frames, file, **window, count=2, size=32) == "too_slow"
        assert reason(av_files.read_sound, file, **window) == "too_slow"
    assert av_files.read_header(data + b"other").video


@pytest.mark.parametrize("layouts", [("stereo", "stereo"), ("mono", "stereo")])
def test_sound_whose_rate_changes_keeps_its_pitch(layouts):
    data = b"".join(
        tone(rate, layout) for rate, layout in zip((44_100, 22_050), layouts, strict=True)
    )
    for start in (0.2, 1.3):
        samples, rate = av_files.read_sound(data, start=start, seconds=0.5)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(1000, abs=5)


def tone(rate, layout):
    """An MP3 file of 1 kHz, 1 s long."""
    wave = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.float32)
    with av.open(out := io.BytesIO(), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout=layout)
        channels = np.tile(wave, (stream.layout.nb_channels, 1))
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()
