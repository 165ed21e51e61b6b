"""The formulas of the scaling model."""

import dataclasses

import pytest

from benchmarks import scaling_model
from benchmarks.pages import scaling_tables

H100 = scaling_model.MACHINES["h100"]


@pytest.fixture
def workload():
    return scaling_model.Workload(
        *("small", 1e9, 10_000_000), kept_bytes=500_000_000, N=100, K=2, P=5, D=64
    )


def test_parts_are_those_of_the_formulas(workload):
    found = scaling_model.step(H100, workload, devices=16, clips=8)
    entries = 8 * 128 * 100 * 10
    assert found.encoder == pytest.approx(3 * 1e9 * 8 / (0.4 * 989.4e12))
    # A product of width 64 waits for memory, one of width 512 for arithmetic.
    assert found.products == pytest.approx(4 * entries * 4 / 3.35e12)
    wide = dataclasses.replace(workload, D=512)
    of_wide = scaling_model.step(H100, wide, devices=16, clips=8)
    assert of_wide.products == pytest.approx(4 * entries * 1024 / (0.4 * 494.7e12))
    assert of_wide.passes == found.passes == pytest.approx(entries * 16 / 3.35e12)
    # y one way and its gradient back; masks and sums of the contrast are a few percent more.
    y = 15 * 8 * 10 * 512 * 8 / 400e9
    assert y < of_wide.exchange < 1.05 * y
    assert found.gradients == pytest.approx(8 * 1e7 * 15 / 16 / 400e9)
    assert found.share == pytest.approx(found.fine / found.whole)


def test_a_ring_overlaps_and_uses_one_connection(workload):
    ring = scaling_model.Options(exchange="ring")
    inside, across = (scaling_model.step(H100, workload, n, 8, ring) for n in (8, 16))
    assert across.fine == across.exchange > 8 * inside.exchange
    assert inside.fine == max(inside.products + inside.passes, inside.exchange)


def test_the_share_grows_with_the_batch_and_options_shrink_it(workload):
    shares = [scaling_model.step(H100, workload, n, 8).share for n in scaling_tables.COUNTS]
    assert shares == sorted(shares)
    most = scaling_model.largest_within(H100, workload, 8)
    assert scaling_model.step(H100, workload, most, 8).share <= scaling_model.TARGET
    assert scaling_model.step(H100, workload, 2 * most, 8).share > scaling_model.TARGET
    for options in ({"phrases": 2}, {"pooled": 4}, {"implementation": "kernel"}):
        changed = scaling_model.step(H100, workload, 64, 8, scaling_model.Options(**options))
        assert changed.share < scaling_model.step(H100, workload, 64, 8).share


def test_the_largest_batch_leaves_room_for_the_state(workload):
    # 72 GB less 0.16 GB, at 0.5 GB a clip, in fours.
    assert workload.largest_batch(H100) == 140
