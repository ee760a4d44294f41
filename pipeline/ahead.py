"""Reads ahead in a thread, so that reading and decoding overlap the work of a model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Final, TypeVar

AHEAD: Final = 4  # items that are held at most

Item = TypeVar("Item")


class _End:
    """Behind the last item: how the reading ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterator[Item], most: int = AHEAD) -> Iterator[Item]:
    """The same items in the same order, up to `most` of them read before they are asked for.

    Raises what reading them raises, where it did. The thread ends with the iterator.
    """
    read: queue.Queue[Item | _End] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: Item | _End) -> None:
        while not stopped.is_set():
            try:
                read.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
        except BaseException as raised:  # told to the one who asks
            error = raised
        put(_End(error))

    thread = threading.Thread(target=work, name="thresher-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := read.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
