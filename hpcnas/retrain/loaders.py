"""Processes that make batches of images for one rank, ahead of time.

    rank ── Begin (what makes images), Make (which of them, into which place) ──► loader ── Made | Failed ──► rank
                └───── pixels: a memory file of a few places for each loader, which both map ─────┘

A memory file needs no room in /dev/shm, of which containers have 64 MB. A loader that dies is told of and replaced, and
its batches are made again. Loaders are forked from a clean server process, since a process that has begun MPI or CUDA
must not be forked. They heed no signals, and end with the process that started them, however that ends; so does the
server.

What makes images, and how a rank waits for them, is said in `batch_source`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import multiprocessing
import os
import signal
import struct
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import reduction, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcnas.job.signals import ASKING, signal_name
from hpcnas.retrain.batch_source import LOOK, Broken, ImageMaker, Loaded, NoImages, Waiting, here

AHEAD = 3  # batches that a loader makes ahead
_DYING_PATIENCE = 5.0  # seconds; a process that hangs in a driver cannot even be killed
_TRIES = 20  # to start a loader whose server has ended
_OOM_SCORE = "900"  # the kernel should take a loader before the rank
_HEAD = 64  # bytes at the beginning of a memory file: the number of the image that is being read
_NOTHING = -1  # in its place where there is none
_logger = logging.getLogger("hpcnas")


@dataclass(frozen=True)
class Begin:
    """To a loader: make images so from now on."""

    images: ImageMaker


@dataclass(frozen=True)
class Make:
    """To a loader: make a batch of these images."""

    numbers: list[int]
    place: int  # in the memory file


@dataclass(frozen=True)
class Made:
    """From a loader, in the order of its orders: the pixels are in their place."""

    shape: tuple[int, ...]
    labels: list[int]
    unreadable: list[Broken]


@dataclass(frozen=True)
class Failed:
    """From a loader: what it has met, and it was no image that cannot be read."""

    problem: str


class Processes:
    """Batches in turns from several loaders, each of which is some batches ahead."""

    def __init__(self, number: int, batch_bytes: int, preload: str) -> None:
        """`batch_bytes`: the most that the pixels of a batch take. `preload`: a module that their server imports, so
        that not every loader has to."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preload])
        self._batch_bytes = batch_bytes
        self._batches: Iterator[list[int]] = iter(())
        self._images: ImageMaker | None = None
        self._loaders: list[_Loader] = []
        self._end = weakref.finalize(self, _kill, self._loaders)  # also when Python ends
        self._number = number
        self._turn = 0  # whose batch is next
        self._used: _Loader | None = None  # whose first place holds the batch that was given last

    def begin(self, images: ImageMaker, batches: Iterable[list[int]]) -> None:
        if any(loader.orders for loader in self._loaders):  # left half-way: what they still make is no longer wanted
            self.close()
        self._loaders += [self._started() for _ in range(self._number - len(self._loaders))]
        self._images, self._batches, self._turn, self._used = images, iter(batches), 0, None
        for loader in self._loaders:
            loader.send(Begin(images))
        for _ in range(AHEAD):
            for loader in self._loaders:
                self._order(loader)

    def _started(self) -> _Loader:
        for attempt in range(_TRIES):
            try:
                return _Loader(self._context, self._batch_bytes)
            except (EOFError, ConnectionError) as error:  # the server has been ended: the next try starts another one
                problem: Exception = error
                if attempt == 0:
                    _logger.warning("the server of the loader processes has ended; another one takes its place")
                time.sleep(0.1)  # for the system to know that
            except OSError as error:  # too many processes or open files, too little memory
                problem = error
                break
        raise NoImages(f"{here()} cannot start a loader process: {problem or type(problem).__name__}")

    def _order(self, loader: _Loader) -> None:
        """Gives a loader another batch to make, if there are any left."""
        for numbers in itertools.islice(self._batches, 1):
            loader.order(numbers)

    def next(self, leave: Callable[[], bool]) -> Loaded | None:
        if self._used is not None:
            self._order(self._used)
            self._used = None
        loader = self._loaders[self._turn]
        waiting = Waiting()
        while True:
            try:
                message = loader.receive(LOOK)
            except EOFError:
                loader = self._replaced(loader)
                continue
            if message is not None:
                break
            if not waiting.goes_on(leave, lambda: self._named(loader)):  # noqa: B023  # asked for at once
                return None
        if isinstance(message, Failed):
            raise NoImages(f"{here()}: a loader process cannot make images: {message.problem}")
        self._turn = (self._turn + 1) % len(self._loaders)
        self._used = loader
        return loader.pixels(message), torch.tensor(message.labels, dtype=torch.int64), message.unreadable

    def _replaced(self, dead: _Loader) -> _Loader:
        """Another loader with the orders of one that has died. Raises NoImages where that one has made nothing either,
        which had taken over from another."""
        how = dead.how_it_ended()
        if dead.replaces and not dead.made:
            raise NoImages(
                f"{here()}: two loader processes have died one after the other, the last one {how}; it was to make "
                f"{self._named(dead)}; too little memory, or an image that breaks its decoder?"
            )
        _logger.warning("a loader process %s at %s; another one takes its place", how, self._named(dead))
        dead.kill()
        assert self._images is not None, "a loader with orders has begun"
        loader = self._loaders[self._loaders.index(dead)] = self._started()
        loader.replaces = True
        loader.send(Begin(self._images))
        for numbers, _ in dead.orders:
            loader.order(numbers)
        return loader

    def _named(self, loader: _Loader) -> str:
        """The image that a loader is reading, as far as it says so."""
        assert self._images is not None, "a loader with orders has begun"
        number = loader.reading
        return "its loader processes" if number == _NOTHING else self._images.described(number)

    def close(self) -> None:
        _kill(self._loaders)
        self._loaders.clear()  # the list itself stays: what ends them at last has it


def _kill(loaders: list[_Loader]) -> None:
    for loader in loaders:
        loader.kill()


class _Loader:
    """One loader process, as the rank sees it."""

    def __init__(self, context: Any, batch_bytes: int) -> None:
        self.orders: deque[tuple[list[int], int]] = deque()  # batches that it is to make, and where to
        self.replaces = False  # whether it has taken over from another one
        self.made = 0
        self._free = deque(range(AHEAD))  # places
        self._batch_bytes = batch_bytes
        size = _HEAD + AHEAD * batch_bytes
        with contextlib.closing(_MemoryFile(size)) as file:
            self._memory = mmap.mmap(file.descriptor, size)
            struct.pack_into("q", self._memory, 0, _NOTHING)
            self._pipe, theirs = context.Pipe()
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
            try:
                resource_tracker.ensure_running()  # by itself now, since it unblocks signals in this process
                signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)  # blocked in loaders, and their server, for good
                self._process = context.Process(target=_load, args=(theirs, size, batch_bytes), daemon=True)
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                theirs.close()
            with contextlib.suppress(OSError):  # its death shows when something is received
                reduction.send_handle(self._pipe, file.descriptor, self._process.pid)

    def send(self, message: Begin | Make) -> None:
        with contextlib.suppress(OSError):  # likewise
            self._pipe.send(message)

    def order(self, numbers: list[int]) -> None:
        place = self._free.popleft()
        self.orders.append((numbers, place))
        self.send(Make(numbers, place))

    def receive(self, timeout: float) -> Made | Failed | None:
        """What its oldest order has come to, which is then done; None after `timeout` seconds. Raises EOFError when the
        loader is gone."""
        try:
            if not self._pipe.poll(timeout):
                return None
            message: Made | Failed = self._pipe.recv()
        except OSError:  # reset by a dying process
            raise EOFError from None
        _, self._place = self.orders.popleft()
        self._free.append(self._place)  # to be used after those that are free already
        self.made += 1
        return message

    def pixels(self, made: Made) -> Tensor:
        """uint8 of the shape that was made: a view of the place that has become free."""
        count = 1
        for side in made.shape:
            count *= side
        if not count:
            return torch.empty(made.shape, dtype=torch.uint8)
        offset = _HEAD + self._place * self._batch_bytes
        return torch.frombuffer(self._memory, dtype=torch.uint8, count=count, offset=offset).view(made.shape)

    @property
    def reading(self) -> int:
        """The number of the image that it is reading."""
        return int(struct.unpack_from("q", self._memory, 0)[0])

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def how_it_ended(self) -> str:
        self._process.join(_DYING_PATIENCE)
        code = self._process.exitcode
        if code is None:
            return "has closed its pipe"
        return f"was ended by {signal_name(-code)}" if code < 0 else f"has ended with exit code {code}"

    def kill(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join(_DYING_PATIENCE)


class _MemoryFile:
    """A file without a name, in memory. Raises OSError."""

    def __init__(self, size: int) -> None:
        try:
            self.descriptor = os.memfd_create("hpcnas-images")
        except (AttributeError, OSError) as error:  # another system than Linux, or a container that forbids it
            _logger.warning(
                "loaders hand over images by files in %s, which may be slower: there are no memory files here (%s)",
                tempfile.gettempdir(), error,
            )  # fmt: skip
            self.descriptor, name = tempfile.mkstemp(prefix="hpcnas-images-")
            os.unlink(name)
        os.ftruncate(self.descriptor, size)

    def close(self) -> None:
        os.close(self.descriptor)


def _load(pipe: Connection, size: int, batch_bytes: int) -> None:
    """The life of a loader process: takes orders until the pipe closes."""
    _end_with_rank()
    torch.set_num_threads(1)  # several loaders share the cores
    with contextlib.suppress(EOFError, OSError):  # the rank is gone
        descriptor = reduction.recv_handle(pipe)
        memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
        _serve(pipe, memory, batch_bytes)


def _serve(pipe: Connection, memory: mmap.mmap, batch_bytes: int) -> None:
    begun: Begin | None = None
    while True:
        order = pipe.recv()
        if isinstance(order, Begin):
            begun = order
            continue
        assert begun is not None, "orders come after what makes images"
        answer: Made | Failed
        try:
            answer = _made(begun.images, order, memory, batch_bytes)
        except Exception as error:
            answer = Failed(f"{type(error).__name__}: {error}")
        pipe.send(answer)


def _made(images: ImageMaker, order: Make, memory: mmap.mmap, batch_bytes: int) -> Made:
    """Makes a batch and puts its pixels into their place."""
    pixels, labels, unreadable = images.batch(order.numbers, lambda number: struct.pack_into("q", memory, 0, number))
    struct.pack_into("q", memory, 0, _NOTHING)
    if pixels.numel():
        offset = _HEAD + order.place * batch_bytes
        place = torch.frombuffer(memory, dtype=torch.uint8, count=pixels.numel(), offset=offset)
        place.view(pixels.shape).copy_(pixels)
    return Made(tuple(pixels.shape), labels.tolist(), unreadable)


def _end_with_rank() -> None:
    """Ends this process when the one that started it is gone: at once, also while a file does not answer."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a loader is started by a rank"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
