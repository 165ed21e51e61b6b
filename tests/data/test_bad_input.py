import collections

import pytest

from fgmm.data import bad_input


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    monkeypatch.setattr(bad_input, "_named", collections.Counter())


def test_the_first_files_of_each_reason_are_named(caplog):
    for number in range(bad_input.NAMED + 5):
        bad_input.tell("unreadable_video", f"{number}.mp4", "unreadable_video: no\nindex")
    bad_input.tell("missing_file", "gone.mp4")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == bad_input.NAMED + 1
    assert lines[0] == "bad input, unreadable_video: 0.mp4 (no index)"
    assert lines[-2].endswith("9.mp4 (no index); further ones are only counted")
    assert lines[-1] == "bad input, missing_file: gone.mp4"


def test_what_was_never_there_is_no_damage(caplog):
    for reason in ("no_audio", "no_captions", "empty_caption"):
        bad_input.tell(reason, "a.mp4")
    assert not caplog.records
