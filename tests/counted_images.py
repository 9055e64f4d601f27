"""Images that are numbers, for tests of what makes batches in other processes: a file that imports little."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch

from hpcnas.retrain.batch_source import Loaded

DEADLY, WITHOUT_MEMORY = 13, 14


class Counted:
    """Image n is one pixel of three times n, with the label 2 n. One of them ends whoever reads it; one never comes,
    where a named pipe stands for it."""

    def __init__(self, pipe: Path | None = None) -> None:
        self._pipe = pipe

    def batch(self, numbers: list[int], note: Callable[[int], None]) -> Loaded:
        for number in numbers:
            note(number)
            if number == DEADLY:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == WITHOUT_MEMORY:
                raise MemoryError("no more of it")
            if self._pipe is not None and number == 1:
                self._pipe.read_bytes()
        pixels = torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 1, 3)
        unreadable = [(f"image {number}", "it is the fifth") for number in numbers if number == 5]
        return pixels.contiguous(), 2 * torch.tensor(numbers), unreadable

    def described(self, number: int) -> str:
        return f"image {number}"
