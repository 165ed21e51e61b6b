"""Puts batches on the device ahead of their step."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Seconds to wait for the last item at the end, because the source may hang.
_PATIENCE = 30


class Prefetch:
    """An iterator that runs a few items ahead of its consumer, in a thread.

    Items stay in order, and an error of the source is raised in place of its item. Use it as a
    context manager: on exit the thread stops, and the remaining items are dropped.

    Args:
      items: the source. Only the thread iterates over it.
      put: maps an item to the one that is returned, in the same thread: a copy to the device.
      depth: the number of items ahead, at least 1.
    """

    def __init__(self, items: Iterator[Any], put: Callable[[Any], Any], depth: int):
        self._items, self._put = items, put
        self._room, self._ready = threading.Semaphore(depth), queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def _run(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._stopping:
                    return
                self._ready.put((self._put(next(self._items)), None))
        except BaseException as error:
            self._ready.put((None, error))

    def __iter__(self) -> "Prefetch":
        return self

    def __next__(self) -> Any:
        item, error = self._ready.get()
        if error is not None:
            self._ready.put((None, error))
            raise error
        self._room.release()
        return item

    def __enter__(self) -> "Prefetch":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping = True
        self._room.release()
        self._thread.join(_PATIENCE)
