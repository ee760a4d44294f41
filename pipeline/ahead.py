"""Reads ahead in a thread, so that reading and decoding overlap the work of a model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Final, TypeVar

AHEAD: Final = 4  # items that are held at most
PATIENCE: Final = 1.0  # seconds

Item = TypeVar("Item")


class _End:
    """Behind the last item: how the reading ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterator[Item], most: int = AHEAD) -> Generator[Item, None, None]:
    """The same items in the same order, up to `most` of them read before they are asked for.

    Raises what reading them raises, where it did. The thread ends with the iterator; where it still waits for
    an item a second later, it is left to end with that.
    """
    found: queue.SimpleQueue[Item | _End] = queue.SimpleQueue()
    room = threading.Semaphore(most)
    stopped = threading.Event()

    def work() -> None:
        try:
            room.acquire()
            for item in items:
                found.put(item)
                del item  # this thread holds none while it waits
                room.acquire()
                if stopped.is_set():
                    return
            found.put(_End(None))
        except BaseException as raised:  # told to the one who asks
            found.put(_End(raised))

    thread = threading.Thread(target=work, name="thresher-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := found.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        room.release()
        thread.join(PATIENCE)
