"""Batches put on the device ahead of the step that takes them."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Seconds for the item that is being made when nobody wants it any more. Whoever ends because of an
# error must not wait for ever for a source that hangs as well.
_PATIENCE = 30


class Prefetch:
    """An iterator that runs ahead of who asks, in a thread, by a few items and no more.

    Items come in their order, and an error of the other iterator is raised where its item would
    have come. A context, at whose end the thread stops; what it had made by then is dropped.

    Args:
      items: iterated over in the thread alone.
      put: makes an item what is handed out, in the thread as well: a copy to the device.
      depth: how many are made ahead, at least 1.
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
