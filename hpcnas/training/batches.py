"""Batches of images from where these lie: on the device, in a file that a CPU maps, or on the host of a device whose
memory they do not fit into.

    rows of pixels on the host ─► buffer, page-locked for a GPU ─► batch on the device        `BatchesFromHost`
             └─ in a thread, one batch ahead, two buffers by turns, copied on a stream of its own

Batches hold the same values either way, in the type that the data have: augmentation and normalisation, on the device,
cannot tell. Knows nothing of seeds, splits and labels.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hpcnas.data.augment import movable, padded

Chosen = Tensor | slice
"""Which images: their numbers, int64 (B,), or a part of all of them."""

Arrival = tuple[Tensor, torch.cuda.Event | None]
"""Images on the device, and what says that they have come there, where they may still be on their way."""

_PAUSES = 64  # waits that may be under way: a GPU is given work ahead of time


class Batches(Protocol):
    """The images of one split, for one training."""

    @property
    def waited(self) -> float | None:
        """Seconds that the device had nothing to do but wait for them; None where they lie at hand."""
        ...

    def take(self, chosen: Chosen, upcoming: Chosen | None = None) -> Tensor:
        """Images (B, H, W, C) on the device, padded, as `movable` has them. `upcoming`: those that are asked for next,
        if that is known."""
        ...


@dataclass(frozen=True)
class BatchesInPlace:
    """Of images that lie where they are used: of `pixels` those in `rows`, int64 (n,), or all of them."""

    pixels: Tensor
    rows: Tensor | None = None
    padding: int = 0

    @property
    def waited(self) -> None:
        return None

    def take(self, chosen: Chosen, upcoming: Chosen | None = None) -> Tensor:
        rows = chosen if self.rows is None else self.rows[chosen]
        return padded(movable(self.pixels)[rows], self.padding)


@dataclass
class _Buffer:
    """Memory of the host for one batch, and what is recorded once it is copied from there."""

    memory: Tensor
    copied: torch.cuda.Event | None = None


class BatchesFromHost:
    """Of images that stay on the host: of `pixels` (N, H, W, C) those in `rows`, int64 (n,). All numbers are on the
    host as well. A CPU in the device's place is copied to within its memory."""

    def __init__(self, pixels: Tensor, rows: Tensor, device: torch.device, padding: int = 0) -> None:
        self._pixels, self._rows, self._padding, self._device = movable(pixels), rows, padding, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        threads = torch.get_num_threads()  # this worker's: a thread of its own would take all cores
        self._pool = ThreadPoolExecutor(1, "images", torch.set_num_threads, (threads,))
        self._buffers = deque(_Buffer(torch.empty(0)) for _ in range(2))
        self._ahead: tuple[Tensor, Future[Arrival]] | None = None
        self._waited = 0.0
        self._pauses: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @property
    def waited(self) -> float:
        while self._pauses:
            self._end_pause()
        return self._waited

    def take(self, chosen: Chosen, upcoming: Chosen | None = None) -> Tensor:
        rows = self._rows[chosen]
        images = self._awaited(rows) if self._stream is None else self._awaited_by_stream(rows)
        if upcoming is not None:
            self._ahead = self._begun(self._rows[upcoming])
        return padded(images, self._padding)

    def _coming(self, rows: Tensor) -> Future[Arrival]:
        """These rows: begun ahead of time, or now."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or not torch.equal(ahead[0], rows):
            ahead = self._begun(rows)
        return ahead[1]

    def _begun(self, rows: Tensor) -> tuple[Tensor, Future[Arrival]]:
        return rows, self._pool.submit(self._brought, rows)

    def _brought(self, rows: Tensor) -> Arrival:
        """In the thread: these rows, on the device or on their way to it."""
        buffer, shape = self._buffers[0], (len(rows), *self._pixels.shape[1:])
        self._buffers.rotate()
        if buffer.copied is not None:
            buffer.copied.synchronize()
        if buffer.memory.shape != shape:
            buffer.memory = torch.empty(shape, dtype=self._pixels.dtype, pin_memory=self._stream is not None)
        torch.index_select(self._pixels, 0, rows, out=buffer.memory)
        if self._stream is None:
            return buffer.memory.clone(), None
        with torch.cuda.stream(self._stream):
            images = buffer.memory.to(self._device, non_blocking=True)
            buffer.copied = torch.cuda.Event()
            buffer.copied.record(self._stream)
        return images, buffer.copied

    def _awaited(self, rows: Tensor) -> Tensor:
        """These rows on a CPU."""
        begun = time.perf_counter()
        images, _ = self._coming(rows).result()
        self._waited += time.perf_counter() - begun
        return images

    def _awaited_by_stream(self, rows: Tensor) -> Tensor:
        """These rows on a GPU, whose current stream waits for them: from when it has done all that it was given
        before."""
        stream = torch.cuda.current_stream(self._device)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(stream)
        images, copied = self._coming(rows).result()
        assert copied is not None, "a GPU's images are on their way"
        stream.wait_event(copied)
        end.record(stream)
        images.record_stream(stream)  # whose memory the other stream has taken
        self._pauses.append((begin, end))
        if len(self._pauses) > _PAUSES:
            self._end_pause()
        return images

    def _end_pause(self) -> None:
        """Counts the oldest wait of a GPU."""
        begin, end = self._pauses.popleft()
        end.synchronize()
        self._waited += begin.elapsed_time(end) / 1e3
