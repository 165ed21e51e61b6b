import json
import math
import re
import struct
import sys
import time

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from fgmm.train import speed
from fgmm.train.metrics_writer import MetricsWriter, cut_back


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def write(tmp_path):
    def write(restored, steps):
        clock = speed.Speed(batch_size=4, total=10, flops=lambda: 8e9, peak=None)
        writer = MetricsWriter(tmp_path, restored, total=10, speed=clock, progress=False)
        for step in steps:
            writer.write(step, {"loss": step / 2, "other": float("nan"), **clock.finished(step)})
        writer.close()
        return read(tmp_path / "metrics.jsonl")

    return write


def test_one_line_a_step_and_no_nan_in_json(write):
    lines = write(0, [1, 2])
    assert [(line["step"], line["loss"], line["other"]) for line in lines] == [
        (1, 0.5, None),
        (2, 1.0, None),
    ]
    assert all(line["clips_per_second"] > 0 for line in lines)


def test_the_progress_line_says_how_it_goes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = speed.Speed(batch_size=4, total=4, flops=lambda: 8e9, peak=None)
    writer = MetricsWriter(tmp_path, 1, total=4, speed=clock, progress=True)
    for step in (2, 3, 4):
        writer.write(step, {"loss": 1.25, **clock.finished(step)})
    writer.close()
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert "| 4/4 [" in last
    assert re.search(r"<.*step.*, loss 1\.250, \d+ clips/s, [\d,.]+ GFLOP/s, 0% data wait, ", last)
    assert last.strip().endswith("GiB host]")


def test_in_a_file_there_are_plain_lines_now_and_then(tmp_path, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = speed.Speed(batch_size=4, total=5, flops=lambda: 8e9, peak=None)
    writer = MetricsWriter(tmp_path, 0, total=5, speed=clock, progress=True)
    for step, seconds in ((1, 0.0), (2, 10.0), (3, 31.0), (4, 40.0), (5, 45.0)):
        now[0] = seconds
        writer.write(step, {"loss": step / 2, **clock.finished(step)})
    writer.close()
    printed = capsys.readouterr().err
    assert "\r" not in printed
    lines = printed.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        *("step 1 of 5", "step 3 of 5", "step 5 of 5")
    ]
    assert re.fullmatch(
        r"step 3 of 5, loss 1\.500, \d+ clips/s, .* GiB host, \d+:\d\d:\d\d left", lines[1]
    )


def test_steps_after_the_restored_one_are_cut(write):
    write(0, [1, 2, 3, 4])
    assert [line["step"] for line in write(2, [3])] == [1, 2, 3]


def read_events(path):
    """Records of a file of events: length, checksum, contents, checksum."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 16 + length


def test_events_are_written_for_tensorboard(write, tmp_path):
    write(4, [5, 6])
    (path,) = (tmp_path / "events").iterdir()
    events = [event for event in read_events(path) if event.summary.value]
    assert [event.step for event in events] == [5, 6]
    for event in events:
        values = {value.tag: value.simple_value for value in event.summary.value}
        unknown = {"flop_utilisation", "device_peak_bytes"}
        if event.step == 5:
            unknown |= {"flops_per_second", "seconds_left"}  # of a first step
        assert values.keys() == {"loss", "other", *speed.KEYS} - unknown
        assert values["loss"] == event.step / 2
        assert math.isnan(values["other"])


def test_tensorboard_forgets_the_events_of_steps_that_are_repeated(write, tmp_path):
    write(4, [5])
    (path,) = (tmp_path / "events").iterdir()
    (start,) = [event for event in read_events(path) if event.HasField("session_log")]
    assert (start.step, start.session_log.status) == (5, SessionLog.START)


def test_a_half_written_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    cut_back(path, 5)
    assert read(path) == [{"step": 1}, {"step": 2}]
