"""Ranges of indices that follow each other."""

import pytest

from fgmm.data.corpora.ranges import Ranges


def test_an_index_is_found_in_its_range():
    ranges = Ranges([2, 0, 3])
    assert len(ranges) == 5
    assert [ranges.find(i) for i in range(5)] == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    assert ranges.find(-1) == (2, 2)
    with pytest.raises(IndexError):
        ranges.find(5)


def test_there_may_be_no_range():
    ranges = Ranges([])
    assert len(ranges) == 0
    with pytest.raises(IndexError):
        ranges.find(0)
