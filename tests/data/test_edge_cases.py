import json

import av
import numpy as np
import pytest

from fgmm.data.media import av_files
from tests.data.video_fixture import read_all, reason

# Files whose pictures are turned or stretched, or depend on what the decoder makes of damage.
NOT_AS_CODED = ("rotated_90.mp4", "anamorphic.mp4", "corrupt_bytes.mp4", "truncated_faststart.mp4")


def test_edge_cases(shared_data):
    folder = shared_data("video_edge_cases")
    cases = json.loads((folder / "cases.json").read_text())
    assert len(cases) == 44
    for name, case in cases.items():
        for file in (folder / name, (folder / name).read_bytes()):
            header, frames, sound = read_all(file)
            if case["expect"] == "skip":
                expected = "no_video" if name == "audio_only.mp4" else "unreadable_video"
                assert isinstance(frames, str), name
                assert frames == expected, name
                continue
            assert frames.shape[0] == 2, name
            assert min(frames.shape[1:3]) <= 32, name
            assert header.video, name
            assert header.audio == bool(case["measured"]["audio_tracks"]), name
            if header.audio:
                assert sound.rate == case["measured"]["audio_rate"], name
                assert len(sound.samples) == sound.rate, name
                assert sound.samples.any() == (name != "silent_audio.mp4"), name
            else:
                assert sound == "no_audio", name


def test_windows_of_edge_cases_are_those_of_a_pass_from_the_start(shared_data):
    folder = shared_data("video_edge_cases")
    cases = json.loads((folder / "cases.json").read_text())
    for name, case in cases.items():
        if case["expect"] == "skip" or name in NOT_AS_CODED:
            continue
        with av.open(str(folder / name)) as container:
            shown = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
        assert len(shown) == case["measured"]["frames"], name
        for start in (0.0, 0.55, 1.2):
            read = av_files.read_frames(
                folder / name, start=start, seconds=0.63, count=3, size=10_000
            )
            for i, picture in enumerate(read):
                moment = start + (i + 0.5) * 0.21
                due = [array for time, array in shown if time <= moment] or [shown[0][1]]
                np.testing.assert_array_equal(picture, due[-1], err_msg=f"{name} at {moment}")


def test_times_of_sound_in_edge_cases(shared_data):
    folder = shared_data("video_edge_cases")
    late = av_files.read_sound(folder / "late_audio.mp4", start=0.0, seconds=1.5)
    assert np.flatnonzero(late.samples)[0] / late.rate == pytest.approx(0.728, abs=0.001)
    short = av_files.read_sound(folder / "short_audio.mp4", start=0.0, seconds=2.0)
    assert np.flatnonzero(short.samples)[-1] / short.rate == pytest.approx(0.5, abs=0.02)
    assert (
        reason(av_files.read_sound, folder / "short_audio.mp4", start=0.8, seconds=1.0)
        == "no_audio"
    )
    both = av_files.read_sound(folder / "stereo_48khz.mp4", start=0.0, seconds=1.0)
    one = av_files.read_sound(folder / "one_side_silent.mp4", start=0.0, seconds=1.0)
    assert 0 < np.abs(one.samples).max() < np.abs(both.samples).max()
