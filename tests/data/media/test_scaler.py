import fractions

import av
import numpy as np
import pytest

from fgmm.data.media import av_files, decode, scaler
from fgmm.data.schema import Resizing
from tests.data.video_fixture import FPS, number_of, numbered, write_video

WINDOW = {"start": 0.0, "seconds": 1.0}


def smooth(number: int, height: int, width: int) -> np.ndarray:
    """A picture of slowly changing colours."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(3 * rows + number), np.cos(4 * columns), np.sin(2 * rows + 3 * columns)]
    return np.round(127.5 + 60 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((96, 160), {}),
        ((90, 122), {"codec": "libx264"}),
        ((160, 96), {"rotation": 90}),
        ((96, 160), {"rotation": -90}),
        ((96, 160), {"rotation": 180}),
        ((48, 96), {"aspect": fractions.Fraction(3, 2)}),
        ((24, 32), {}),
    ],
)
@pytest.mark.parametrize("target", [(32, 32), (33, 47), (48, 20)])
def test_pictures_read_into_a_batch_are_those_fitted_afterwards(tmp_path, shape, options, target):
    pictures = [smooth(i, *shape) for i in range(FPS)]
    video = write_video(tmp_path / "a.mp4", pictures, **options)
    whole = av_files.read_frames(video, **WINDOW, count=4, size=10_000)
    out = np.zeros((4, *target, 3), np.uint8)
    av_files.fill_frames(video, out, **WINDOW)
    expected = decode.fit_frames(whole, 4, *target).astype(int)
    assert np.abs(out - expected).mean() < 3
    assert np.abs(out - expected).max() < 30


def test_a_batch_has_pictures_in_the_middle_of_equal_stretches(tmp_path):
    video = write_video(tmp_path / "a.mp4", [numbered(i) for i in range(2 * FPS)])
    for frames in (1, 4, 9):
        out = np.zeros((frames, 24, 32, 3), np.uint8)
        av_files.fill_frames(video, out, start=0.4, seconds=1.5)
        moments = 0.4 + (np.arange(frames) + 0.5) * 1.5 / frames
        shown = [number_of(picture) for picture in out]
        assert shown == np.floor(moments * FPS + 1e-6).astype(int).tolist()
        whole = av_files.read_frames(video, start=0.4, seconds=1.5, count=frames, size=24)
        assert shown == [number_of(picture) for picture in whole]


def test_long_and_low_pictures_are_not_enlarged_whole(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", [smooth(i, 16, 2048) for i in range(3)])
    monkeypatch.setattr(scaler.Scaler, "_scaled", small_enough(scaler.Scaler._scaled))
    out = np.zeros((1, 64, 64, 3), np.uint8)
    av_files.fill_frames(video, out, start=0.0, seconds=0.1)
    whole = av_files.read_frames(video, start=0.0, seconds=0.1, count=1, size=64)
    np.testing.assert_array_equal(out, decode.fit_frames(whole, 1, 64, 64))


def small_enough(scaled):
    def checked(self, frame, height, width):
        assert height * width <= 16 * 2048
        return scaled(self, frame, height, width)

    return checked


def test_small_pictures_are_enlarged_to_the_size_of_the_batch(tmp_path):
    video = write_video(tmp_path / "a.mp4", [smooth(0, 24, 32)] * 3)
    out = np.zeros((1, 96, 128, 3), np.uint8)
    av_files.fill_frames(video, out, start=0.0, seconds=0.1)
    small = av_files.read_frames(video, start=0.0, seconds=0.1, count=1, size=96)
    assert small.shape == (1, 24, 32, 3)
    difference = out - decode.fit_frames(small, 1, 96, 128).astype(int)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize(
    ("fit", "ratio"), [("crop", 1.0), ("cover", 1.0), ("cover", 1.25), ("stretch", 1.0)]
)
def test_a_video_is_resized_as_a_batch_asks(tmp_path, fit, ratio):
    """FFmpeg's filters differ a little from Pillow's, and what is shown does not."""
    pictures = [smooth(i, 96, 160) for i in range(3)]
    video = write_video(tmp_path / "a.mp4", pictures, codec="libx264")
    whole = av_files.read_frames(video, **WINDOW, count=1, size=10_000)
    for name in ("bilinear", "bicubic"):
        resizing = Resizing(fit, name, ratio)
        out = np.zeros((1, 32, 24, 3), np.uint8)
        av_files.fill_frames(video, out, **WINDOW, resizing=resizing)
        expected = decode.fit_frames(whole, 1, 32, 24, resizing=resizing)
        assert np.abs(out - expected.astype(int)).mean() < 4, resizing


def test_what_the_scaler_wrote_is_not_copied(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", [smooth(i, 96, 160) for i in range(3)], rotation=90)
    written = []
    pixels = scaler._pixels

    def noted(frame):
        written.append(np.frombuffer(frame.planes[0], np.uint8))
        return pixels(frame)

    monkeypatch.setattr(scaler, "_pixels", noted)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        for target in (None, (32, 32), (40, 24)):
            picture = scaler.Scaler(stream, 48, target)(next(container.decode(stream)))
            assert np.shares_memory(picture, written[-1])


def test_ways_through_the_scaler_agree(shared_data, monkeypatch):
    """Size first and colours then, or both at once: the same pictures but for rounding."""
    folder = shared_data("video_edge_cases")
    names = ("original.mp4", "full_range.mp4", "grey.mp4", "ten_bit.mp4", "anamorphic.mp4")
    for name in (*names, "odd_dimensions_yuv444.mp4", "hevc.mp4", "tall.mp4"):
        read = []
        for formats in (scaler._FAST_COLOURS, ()):
            monkeypatch.setattr(scaler, "_FAST_COLOURS", formats)
            out = np.zeros((2, 64, 48, 3), np.uint8)
            av_files.fill_frames(folder / name, out, **WINDOW)
            read.append(out.astype(int))
            monkeypatch.undo()
        difference = read[0] - read[1]
        assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 2, name
        assert np.abs(difference).mean() < 3, name
