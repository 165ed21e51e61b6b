import itertools
import threading
import time

import pytest

from fgmm.train.prefetch import Prefetch


def settled(read, expected):
    """Waits until ``read()`` is ``expected``, and a little longer."""
    deadline = time.monotonic() + 10
    while read() != expected and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    return read()


@pytest.mark.parametrize("depth", [1, 3])
def test_items_in_order_made_so_many_ahead_and_no_more(depth):
    made = []

    def make(item):
        made.append((item, threading.current_thread().name))
        return 10 * item

    with Prefetch(itertools.count(), make, depth) as ahead:
        assert settled(lambda: len(made), depth) == depth
        assert [next(ahead) for _ in range(5)] == [0, 10, 20, 30, 40]
        assert settled(lambda: len(made), depth + 5) == depth + 5
    assert [item for item, _ in made] == list(range(depth + 5))
    assert {name for _, name in made} == {"prefetch"}
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield from (1, 2)
        raise OSError("shard is gone")

    with Prefetch(items(), str, 8) as ahead:
        assert [next(ahead), next(ahead)] == ["1", "2"]
        for _ in range(2):
            with pytest.raises(OSError, match="shard is gone"):
                next(ahead)


def test_the_end_of_the_items_is_the_end():
    with Prefetch(iter("abc"), str.upper, 2) as ahead:
        assert list(ahead) == ["A", "B", "C"]


def test_whoever_leaves_early_stops_the_thread():
    def leave_early():
        with Prefetch(itertools.count(), str, 2) as ahead:
            next(ahead)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
