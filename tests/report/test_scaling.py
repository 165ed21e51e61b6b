"""The model of scaling: its formulas, and the page that is made of them."""

import dataclasses
import json
import subprocess
import sys

import pytest

from fgmm.config import ConfigError
from fgmm.report import scaling

H100 = scaling.MACHINES["h100"]


@pytest.fixture
def workload():
    return scaling.Workload(
        *("small", 1e9, 10_000_000), kept_bytes=500_000_000, N=100, K=2, P=5, D=64
    )


def test_parts_are_those_of_the_formulas(workload):
    found = scaling.step(H100, workload, devices=16, clips=8)
    entries = 8 * 128 * 100 * 10
    assert found.encoder == pytest.approx(3 * 1e9 * 8 / (0.4 * 989.4e12))
    # A product of width 64 waits for memory, one of width 512 for arithmetic.
    assert found.products == pytest.approx(4 * entries * 4 / 3.35e12)
    wide = dataclasses.replace(workload, D=512)
    of_wide = scaling.step(H100, wide, devices=16, clips=8)
    assert of_wide.products == pytest.approx(4 * entries * 1024 / (0.4 * 494.7e12))
    assert of_wide.passes == found.passes == pytest.approx(entries * 16 / 3.35e12)
    # y one way and its gradient back; masks and sums of the contrast are a few percent more.
    y = 15 * 8 * 10 * 512 * 8 / 400e9
    assert y < of_wide.exchange < 1.05 * y
    assert found.gradients == pytest.approx(8 * 1e7 * 15 / 16 / 400e9)
    assert found.share == pytest.approx(found.fine / found.whole)


def test_a_ring_overlaps_and_uses_one_connection(workload):
    ring = scaling.Options(exchange="ring")
    inside, across = (scaling.step(H100, workload, n, 8, ring) for n in (8, 16))
    assert across.fine == across.exchange > 8 * inside.exchange
    assert inside.fine == max(inside.products + inside.passes, inside.exchange)


def test_the_share_grows_with_the_batch_and_options_shrink_it(workload):
    shares = [scaling.step(H100, workload, n, 8).share for n in scaling.COUNTS]
    assert shares == sorted(shares)
    most = scaling.largest_within(H100, workload, 8)
    assert scaling.step(H100, workload, most, 8).share <= scaling.TARGET
    assert scaling.step(H100, workload, 2 * most, 8).share > scaling.TARGET
    for options in ({"phrases": 2}, {"pooled": 4}, {"implementation": "kernel"}):
        changed = scaling.step(H100, workload, 64, 8, scaling.Options(**options))
        assert changed.share < scaling.step(H100, workload, 64, 8).share


def test_the_largest_batch_leaves_room_for_the_state(workload):
    # 72 GB less 0.16 GB, at 0.5 GB a clip, in fours.
    assert workload.largest_batch(H100) == 140


def test_the_page_is_what_the_code_says(repository):
    path = repository / "docs" / "scaling.md"
    results = json.loads((path.parent / "results" / "scaling.json").read_text())
    made = scaling.tables(results)
    page = path.read_text()
    assert scaling.filled(page, made) == page
    assert all(f"<!-- scaling: {name} -->" in page for name in made)
    for row in results["programs"]:
        assert row["loss_bytes"] == pytest.approx(row["loss_bytes_by_formula"], rel=0.03)
        assert row["loss_flops"] == pytest.approx(row["loss_flops_by_formula"], rel=0.03)
    with pytest.raises(ConfigError, match="no <!-- scaling: none -->"):
        scaling.filled(page, {"none": ""})


def test_a_step_is_timed_without_reading_or_decoding(repository):
    """A device machine may have neither grain nor PyAV."""
    code = (
        "import sys; sys.modules.update(grain=None, av=None); sys.path.insert(0, 'benchmarks');"
        "import scaling; e = scaling.experiment_of(scaling.SMALL, batch=2, frames=4, size=32);"
        "print(sorted(scaling._random_batch(e, 2)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "video_mask" in ran.stdout
