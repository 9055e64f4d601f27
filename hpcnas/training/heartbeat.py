"""Signs of life from a thread, while something long runs that gives none itself, such as a compiler."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

LONGEST = 1800.0  # seconds; no compilation takes so long, so that what runs longer is taken to hang


@contextlib.contextmanager
def beating(beat: Callable[[], object], interval: float, longest: float = LONGEST) -> Iterator[None]:
    """Calls `beat` every `interval` seconds from a thread until the block is left, for `longest` seconds at most; it is
    not called after that. What `beat` raises of an operating system's errors ends it silently."""
    done = threading.Event()
    end = time.monotonic() + longest

    def go_on() -> None:
        with contextlib.suppress(OSError):
            while not done.wait(interval) and time.monotonic() < end:
                beat()

    thread = threading.Thread(target=go_on, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
