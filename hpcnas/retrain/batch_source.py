"""Where the batches of images of one rank come from: what makes them, and a thread of the rank that does so.

Whoever waits for a batch is asked twice a second whether to go on, and does not wait for ever. Processes that make
batches ahead of time are `loaders`' business. Knows neither files nor decoders.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from torch import Tensor

from hpcnas.job.clocks import Attentive

LOOK = 0.5  # seconds between two looks at whether to go on waiting
_REMARK = 30.0  # seconds of waiting after which a person is told
_PATIENCE = 600.0  # seconds of waiting for one batch after which there is no point in going on; less than a group's
_logger = logging.getLogger("hpcnas")

Broken = tuple[str, str]
"""The name of an image that cannot be read, and why."""

Loaded = tuple[Tensor, Tensor, list[Broken]]
"""uint8 (B, H, W, C), int64 (B,), and the images that could not be read."""


class NoImages(Exception):
    """A rank cannot have its images: one line."""


class ImageMaker(Protocol):
    """What makes images out of numbers; goes to loaders as a pickle."""

    def batch(self, numbers: list[int], note: Callable[[int], None]) -> Loaded:
        """These images; `note` is told the number of each before it is read."""
        ...

    def described(self, number: int) -> str:
        """What a person knows that image by."""
        ...


class BatchSource(Protocol):
    """Where a rank's batches come from."""

    def begin(self, images: ImageMaker, batches: Iterable[list[int]]) -> None:
        """From now on `next` gives these batches. Raises NoImages where there is no room for processes."""
        ...

    def next(self, leave: Callable[[], bool]) -> Loaded | None:
        """The next batch, whose pixels hold until the next call; None where `leave` said, while it was waited for, that
        the rank is to leave. To be called for no more batches than there are. Raises NoImages."""
        ...

    def close(self) -> None:
        """Ends what was started."""
        ...


class Waiting:
    """The waiting of a rank for one batch: has an end, and tells a person before."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock` counts seconds in which this process could have heard an answer."""
        self._clock = clock or Attentive(4 * LOOK)
        self._began = self._clock()
        self._told = False

    def goes_on(self, leave: Callable[[], bool], where: Callable[[], str]) -> bool:
        """Whether to look again; `where` says what is being waited for. Raises NoImages after too long."""
        if leave():
            return False
        waited = self._clock() - self._began
        if waited >= _PATIENCE:
            raise NoImages(f"expected images within {_PATIENCE:.0f} s, got none: {here()} waits for {where()}")
        if waited >= _REMARK and not self._told:
            self._told = True
            _logger.warning("no images for %.0f s: waiting for %s", waited, where())
        return True


def here() -> str:
    """This rank, in messages."""
    return f"a rank on {socket.gethostname()}"


class OwnThread:
    """Batches by a thread of this process, one at a time, so that a file that does not answer stops nothing else."""

    def __init__(self) -> None:
        self._batches: Iterator[list[int]] = iter(())
        self._images: ImageMaker | None = None
        self._orders: queue.SimpleQueue[tuple[ImageMaker, list[int]]] | None = None  # None: no thread listens
        self._done: queue.SimpleQueue[Loaded | BaseException] = queue.SimpleQueue()
        self._reading = 0

    def begin(self, images: ImageMaker, batches: Iterable[list[int]]) -> None:
        self._images, self._batches = images, iter(batches)

    def next(self, leave: Callable[[], bool]) -> Loaded | None:
        images = self._images
        assert images is not None, "what makes images comes first"
        if self._orders is None:
            self._orders, self._done = queue.SimpleQueue(), queue.SimpleQueue()
            threading.Thread(target=self._work, args=(self._orders, self._done), daemon=True).start()
        self._orders.put((images, next(self._batches)))
        waiting = Waiting()
        while True:
            try:
                found = self._done.get(timeout=LOOK)
                break
            except queue.Empty:
                if not waiting.goes_on(leave, lambda: images.described(self._reading)):
                    self._orders = None  # that thread is lost
                    return None
        if isinstance(found, BaseException):
            raise found
        return found

    def _work(
        self, orders: queue.SimpleQueue[tuple[ImageMaker, list[int]]], done: queue.SimpleQueue[Loaded | BaseException]
    ) -> None:
        while True:
            images, numbers = orders.get()
            try:
                done.put(images.batch(numbers, self._note))
            except BaseException as error:
                done.put(error)

    def _note(self, number: int) -> None:
        self._reading = number

    def close(self) -> None:
        self._batches = iter(())
