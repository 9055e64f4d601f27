"""Ranks as threads of this process, for tests of what ranks compute together: a process group without processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from patience import GUARD
from torch import Tensor

Result = TypeVar("Result")


class ThreadGroup:
    """`process_group.Group` of one thread. Sums are added up in the order of ranks."""

    def __init__(
        self, rank: int, size: int, table: list[Tensor], values: list[Any], barrier: threading.Barrier
    ) -> None:
        self.rank, self.size = rank, size
        self._table, self._values = table, values
        self._barrier = barrier

    def add_up(self, tensor: Tensor) -> None:
        self._exchange(tensor)
        total = torch.stack(self._table).sum(dim=0)
        self._barrier.wait()
        tensor.copy_(total)

    def count(self, held: bool) -> int:
        return sum(self.gather(held))

    def called(self) -> bool:
        return False

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            self._exchange(tensor)
            tensor.copy_(self._table[0])
            self._barrier.wait()

    def gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._barrier.wait()
        gathered = list(self._values)
        self._barrier.wait()
        return gathered

    def _exchange(self, tensor: Tensor) -> None:
        self._table[self.rank] = tensor.detach().clone()
        self._barrier.wait()


def on_ranks(size: int, work: Callable[[ThreadGroup], Result]) -> list[Result]:
    """What each rank's work gives, in the order of ranks."""
    table, values = [torch.empty(0)] * size, [None] * size
    barrier = threading.Barrier(size, timeout=GUARD)

    def ranked(rank: int) -> Result:
        try:
            return work(ThreadGroup(rank, size, table, values, barrier))
        except BaseException:
            barrier.abort()  # the others would wait
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(ranked, range(size)))
