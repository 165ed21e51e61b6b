import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fgmm.data.media import deadline
from fgmm.data.schema import BadInput


def test_the_time_is_over_when_it_is_over():
    deadline.check()
    assert deadline.remaining() is None
    with deadline.within(0.05):
        deadline.check()
        assert 0 < deadline.remaining() <= 0.05
        time.sleep(0.06)
        assert deadline.remaining() == 0
        with pytest.raises(BadInput, match=r"too_slow: not done in 0\.05 s"):
            deadline.check()
    deadline.check()


def test_the_earlier_end_holds():
    with deadline.within(10.0):
        with deadline.within(0.01), deadline.within(5.0), deadline.within(0):
            assert deadline.remaining() <= 0.01
        assert 1 < deadline.remaining() <= 10


def test_each_thread_has_its_own():
    with deadline.within(0.01), ThreadPoolExecutor(1) as pool:
        assert pool.submit(deadline.remaining).result() is None
