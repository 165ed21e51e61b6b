"""Faults of one process, the short form of ``benchmarks/faults.py``."""

import pytest

from tests.faults import alone


def test_sigkill_while_it_writes_and_while_it_evaluates(bench):
    first, second = alone.kill_at(bench, "while a checkpoint is written", "while it evaluates")
    assert first.equal
    assert second.equal
    assert second.continued_from > 0


@pytest.mark.long
def test_a_damaged_checkpoint_is_set_aside(bench):
    assert alone.damaged_checkpoint(bench).equal


@pytest.mark.long
def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_space(bench):
    try:
        trial = alone.disk_full(bench)
    except alone.NotPossibleHere:
        trial = alone.no_larger_files(bench)
    assert trial.equal


@pytest.mark.long
def test_a_batch_that_is_not_a_number_is_skipped_and_counted(bench):
    alone.nan_without_a_kill(bench)
