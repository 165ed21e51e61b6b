import json

import pytest

from fgmm.train.metrics import MetricsWriter, cut_back


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def write(tmp_path):
    def write(restored, steps):
        writer = MetricsWriter(tmp_path, restored, total=10, batch_size=4, progress=False)
        for step in steps:
            writer.write(step, {"loss": step / 2, "other": float("nan")})
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


def test_steps_after_the_restored_one_are_cut(write):
    write(0, [1, 2, 3, 4])
    assert [line["step"] for line in write(2, [3])] == [1, 2, 3]


def test_events_are_written_for_tensorboard(write, tmp_path):
    write(0, [1])
    (events,) = (tmp_path / "events").iterdir()
    assert b"loss" in events.read_bytes()


def test_a_half_written_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    cut_back(path, 5)
    assert read(path) == [{"step": 1}, {"step": 2}]
