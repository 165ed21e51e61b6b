"""The window on a device: every row is written, whatever a row does."""

import json
import sys

import pytest

from benchmarks import device

# Answers, hangs, or ends, by the row that it is asked for.
WORKER = """
import sys, time
for line in sys.stdin:
    print('{"a": 1}', flush=True)
    if line == "loss_kernel\\n":
        time.sleep(60)
    if line == "loss_blockwise\\n":
        sys.exit("no such device")
    print('{"b": 2}\\nend', flush=True)
"""


def rows_of(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row.pop("row"): row for row in rows}


def test_a_row_that_hangs_or_ends_the_process_costs_itself_alone(tmp_path, monkeypatch):
    path, rows = tmp_path / "rows.jsonl", ["loss_kernel", "loss_blockwise", "loss_dense", "resume"]
    monkeypatch.setattr(device, "ROWS", {**device.ROWS, "loss_kernel": (1, 0), "resume": (90, 59)})
    worker = device.Worker(dry_run=False, command=[sys.executable, "-S", "-c", WORKER])
    device.run_rows(rows, worker, minutes=1, output=path)
    found = rows_of(path)
    assert list(found) == rows
    assert {**found["loss_kernel"], "seconds": 0} == {
        **{"a": 1, "error": "cut off after 1 s", "seconds": 0}
    }
    ended = "the process ended with 1: no such device"
    assert (found["loss_blockwise"]["a"], found["loss_blockwise"]["error"]) == (1, ended)
    assert (found["loss_dense"]["a"], found["loss_dense"]["b"]) == (1, 2)
    assert "error" not in found["loss_dense"]
    assert found["resume"]["left_out"].endswith("s are left, and it needs 59")


def test_a_dry_run_writes_every_row(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.jsonl"
    arguments = ["device.py", "--dry_run", "--minutes=8", f"--output={path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    device.main()
    found = rows_of(path)
    assert list(found) == list(device.ROWS)
    assert capsys.readouterr().out == path.read_text()
    assert not [name for name, row in found.items() if "error" in row]
    left_out = {name for name, row in found.items() if "left_out" in row}
    assert left_out == {"kernel_against_float64", "loss_kernel"}
    assert found["device"]["peak_tflops"] == "unknown"
    assert found["blockwise_against_float64"]["right"]
    assert len(found["blockwise_against_float64"]["softmax, 0.02"]) == 4
    for name in ("loss_blockwise", "loss_dense"):
        assert found[name]["both_of_product_rate"] > 0
    for name in ("step_quickstart", "step_s3d", "step_vit_b"):
        assert found[name]["loss"] > 0
        assert found[name]["tflops"] > 0
    assert (found["resume"]["identical"], found["resume"]["position"]) == (True, 2)


def test_unknown_rows_are_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["device.py", "--rows=loss,device"])
    with pytest.raises(SystemExit):
        device.main()
    assert "--rows=loss is unknown; allowed: device, " in capsys.readouterr().err
