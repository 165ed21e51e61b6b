import time

import numpy as np
import pytest

from fgmm.config import ConfigError
from fgmm.data.preparation import records
from fgmm.data.preparation.encode import Encoding
from fgmm.data.preparation.raw import RawRecord
from fgmm.data.preparation.records import RecordMaker, examine
from fgmm.data.schema import BadInput, Caption
from tests.data.pairs_fixture import picture
from tests.data.video_fixture import FPS, RATE, numbered, sung, write_video

PICTURES = [numbered(i) for i in range(FPS)]


def test_what_a_recording_holds(tmp_path):
    both = write_video(tmp_path / "both.mp4", PICTURES, sound=sung(1.0)).read_bytes()
    assert examine(both, "video")[1:] == (True, True, False, ())
    assert examine(both, "video").duration == pytest.approx(1.0, abs=0.1)
    mute = write_video(tmp_path / "mute.mp4", PICTURES).read_bytes()
    assert examine(mute, "video")[1:] == (True, False, False, ())
    alone = write_video(tmp_path / "alone.mp4", sound=sung(1.0)).read_bytes()
    assert examine(alone, "audio")[1:] == (False, True, False, ())
    with pytest.raises(BadInput, match="no_video"):
        examine(alone, "video")
    with pytest.raises(BadInput, match="no_audio"):
        examine(mute, "audio")


def test_sound_is_silent_where_nothing_is_heard_anywhere(tmp_path):
    silence = np.zeros(12 * RATE, np.float32)
    path = write_video(tmp_path / "silent.wav", sound=silence, sound_codec="pcm_s16le")
    assert examine(path.read_bytes(), "audio").silent
    silence[-RATE // 2] = 0.01
    path = write_video(tmp_path / "click.wav", sound=silence, sound_codec="pcm_s16le")
    assert not examine(path.read_bytes(), "audio").silent


def test_video_whose_sound_is_broken_is_kept_without_it(tmp_path, monkeypatch):
    data = write_video(tmp_path / "both.mp4", PICTURES, sound=sung(1.0)).read_bytes()

    def broken(*arguments, **options):
        raise BadInput("unreadable_audio", "broken")

    monkeypatch.setattr(records.av_files, "read_sound", broken)
    (record,) = RecordMaker(Encoding(), 0.0)(RawRecord("a", data, "video"))
    assert record.examined[1:] == (True, False, False, ("unreadable_audio",))
    read = records.features().deserialize_example_np(record.serialized)
    assert (read["has_audio"], read["problems"]) == (False, [b"unreadable_audio"])
    with pytest.raises(BadInput, match="unreadable_audio"):
        RecordMaker(Encoding(), 0.0)(RawRecord("a", data, "audio"))


def test_a_record_holds_all_that_is_known(tmp_path):
    path = write_video(tmp_path / "a.mp4", PICTURES, sound=sung(1.0))
    spoken = (Caption("grüße\ud800", 0.5, 1.25), Caption("二", 2.0, float("inf")))
    raw = RawRecord("ä", path, "video", spoken, {"motion": 3}, "g", {"malformed_line": 2})
    (record,) = RecordMaker(Encoding(), 0.0)(raw)
    assert record.serialized == RecordMaker(Encoding(), 0.0)(raw)[0].serialized
    read = records.features().deserialize_example_np(record.serialized)
    assert read["media"] == path.read_bytes()
    assert (read["clip_id"].decode(), read["group"], read["kind"]) == ("ä", b"g", b"video")
    assert [text.decode() for text in read["captions"]["text"]] == ["grüße?", "二"]
    assert [float(end) for end in read["captions"]["end"]] == [1.25, float("inf")]
    assert read["labels"] == {"name": [b"motion"], "value": [3]}
    assert read["problems"] == [b"malformed_line"]


def test_missing_large_and_slow_recordings_are_left_out(tmp_path, monkeypatch):
    making = RecordMaker(Encoding(), 0.0)
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(BadInput, match="missing_file"):
            making(RawRecord("a", path, "video"))
    path = write_video(tmp_path / "a.mp4", PICTURES)
    monkeypatch.setattr(records, "LARGEST", 100)
    for media in (path, path.read_bytes()):
        with pytest.raises(BadInput, match="too_large"):
            making(RawRecord("a", media, "video"))


def test_what_takes_too_long_is_interrupted(tmp_path):
    path = write_video(tmp_path / "a.mp4", [numbered(i % 256, 288, 384) for i in range(80)])
    started = time.monotonic()
    with pytest.raises(BadInput, match=r"too_slow: not done in 0\.2 s"):
        RecordMaker(Encoding(fps=2000.0), 0.2)(RawRecord("a", path, "video"))
    assert time.monotonic() - started < 5
    # And the clock is stopped.
    time.sleep(0.5)


@pytest.mark.parametrize("label", [-1, (0, -2)])
def test_a_label_below_0_is_refused(label):
    raw = RawRecord("a", picture(), "image", labels={"kind": label})
    with pytest.raises(ConfigError, match=r"recording 'a': label kind=.* must be at least 0"):
        RecordMaker(Encoding(), 0.0)(raw)
