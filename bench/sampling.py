"""Looking again and again while something else goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sampled(look: Callable[[], float], every_s: float) -> Iterator[list[float]]:
    """What was seen, for as long as the block lasts; it begins with a zero.

    Args:
        look: Called in a thread of its own.
        every_s: Seconds between two looks.
    """
    seen = [0.0]
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(every_s):
            seen.append(look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stopping.set()
        watcher.join()
