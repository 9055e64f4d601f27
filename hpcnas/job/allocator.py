"""How the C library's allocator treats large blocks, where it is glibc's; with others nothing changes."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of mallopt, as malloc.h has them


def keep_memory() -> None:
    """Large blocks stay with the process instead of going back to the system after every use: for tensors that come
    again at every step. No block has a mapping of its own: a threshold of more than 32 MB for those would be refused by
    glibc before 2.35."""
    _set({_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0})


def give_memory_back() -> None:
    """Blocks of 16 MB and more go back to the system as soon as they are free, and all threads share one arena:
    for a process that seldom needs them and stays for days."""
    _set({_MMAP_THRESHOLD: 1 << 24, _ARENA_MAX: 1})


def _set(values: dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in values.items():
            mallopt(parameter, value)
