import pickle
import tarfile

import numpy as np
import pytest

from fgmm.data.corpora import files
from fgmm.data.media import av_files
from fgmm.data.media.stretch import Recording, Stretch, even_start
from tests.data.video_fixture import (
    FPS,
    RATE,
    number_of,
    numbered,
    reason,
    sung,
    write_video,
)

SECONDS = 4.0


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    pictures = [numbered(i) for i in range(round(SECONDS * FPS))]
    return write_video(tmp_path_factory.mktemp("media") / "a.mp4", pictures, sound=sung(SECONDS))


def recording_of(video) -> Recording:
    return Recording(files.Folder(video.parent), video.name)


def filled(stretch: Stretch, count: int) -> list[int]:
    out = np.zeros((count, 24, 32, 3), np.uint8)
    stretch.fill(out)
    return [number_of(picture) for picture in out]


def test_pictures_and_sound_are_of_one_window(video):
    stretch = Stretch(recording_of(video), 1.0, 2.0)
    assert filled(stretch, 4) == [25, 35, 45, 55]
    assert [number_of(picture) for picture in stretch.frames(2, 24)] == [30, 50]
    sound = stretch.sound()
    assert len(sound.samples) == 2 * sound.rate == 2 * RATE
    expected = sung(SECONDS)[RATE : 3 * RATE]
    np.testing.assert_allclose(sound.samples[2048:], expected[2048:], atol=0.01)


@pytest.mark.parametrize(("share", "first"), [(0.0, 0.0), (0.5, 1.0), (1.0, 2.0)])
def test_a_stretch_without_a_start_is_at_a_share_of_what_is_left(video, share, first):
    stretch = Stretch(recording_of(video), None, 2.0, share)
    shown = [int((first + 0.5 * (i + 0.5)) * FPS) for i in range(4)]
    assert filled(stretch, 4) == shown
    assert filled(Stretch(video.read_bytes(), None, 2.0, share), 4) == shown
    expected = sung(SECONDS)[round(first * RATE) :][: 2 * RATE]
    np.testing.assert_allclose(stretch.sound().samples[2048:], expected[2048:], atol=0.01)


def test_a_shorter_recording_has_a_stretch_at_its_start(video):
    stretch = Stretch(recording_of(video), None, 8.0, 1.0)
    assert filled(stretch, 4) == [20, 60, 79, 79]
    sound = stretch.sound()
    assert len(sound.samples) == 8 * RATE
    assert not sound.samples[round(4.1 * RATE) :].any()


def test_a_whole_recording(video):
    stretch = Stretch(recording_of(video), None, 0.0)
    assert filled(stretch, 4) == [10, 30, 50, 70]
    assert len(stretch.sound().samples) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)


def test_the_header_is_read_once_for_pictures_and_sound(video, monkeypatch):
    read, read_header = [], av_files.read_header
    monkeypatch.setattr(av_files, "read_header", lambda *of: read.append(of) or read_header(*of))
    stretch = Stretch(recording_of(video), None, 2.0)
    filled(stretch, 4)
    stretch.sound()
    assert len(read) == 1
    assert stretch == Stretch(stretch.recording, None, 2.0)


def test_recordings_of_folders_and_archives_are_the_same(video, tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(video, "b/a.mp4")
    inside, outside = Recording(files.Archive(archive), "b/a.mp4"), recording_of(video)
    assert inside.header() == outside.header() == av_files.read_header(video)
    stretches = [Stretch(recording, 1.0, 1.0) for recording in (inside, outside)]
    frames = [stretch.frames(4, 24) for stretch in stretches]
    np.testing.assert_array_equal(frames[0], frames[1])
    again = pickle.loads(pickle.dumps(stretches[0]))
    np.testing.assert_array_equal(again.sound().samples, stretches[1].sound().samples)
    for corpus in (files.Archive(archive), files.Folder(tmp_path)):
        assert reason(Recording(corpus, "none.mp4").header) == "missing_file"
        assert reason(Stretch(Recording(corpus, "none.mp4"), 0.0, 1.0).sound) == "missing_file"


def test_a_recording_whose_name_leads_out_is_missing(video):
    recording = Recording(files.Folder(video.parent / "below"), "../a.mp4")
    assert reason(recording.header) == "missing_file"


def test_windows_at_equal_distances():
    def starts(duration: float, count: int) -> list[float]:
        return [even_start(duration, 2.0, i, count) for i in range(count)]

    assert starts(10.0, 5) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert starts(5.0, 3) == [0.0, 1.5, 3.0]
    assert starts(5.0, 1) == [1.5]
    assert starts(1.0, 3) == [0.0, 0.0, 0.0]
