"""Many small uniform integers, the same that `numpy.random.Generator.integers` would draw one by one, but faster.

A call of `integers` costs a microsecond and more, and an initial genotype takes five thousand (§3.2). Numpy draws an
integer below a bound by Lemire's method (Fast Random Integer Generation in an Interval, 2019) from 32 bits, the lower
half of a 64-bit word first. This file does the same with words that it fetches in blocks; a test compares the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

Below = Callable[[int], int]

_BLOCK = 256  # words fetched together


@contextlib.contextmanager
def integers_below(generator: np.random.Generator) -> Iterator[Below]:
    """A function that takes a bound, 1 ≤ bound < 2³², and returns what `int(generator.integers(bound))` would.

    After the block, the generator stands where those calls would have left it; it must not be used within. Raises
    TypeError for a generator that `default_rng` has not made.
    """
    source = generator.bit_generator
    if not isinstance(source, np.random.PCG64):
        raise TypeError(f"expected a generator of default_rng (PCG64), got {type(source).__name__}")
    state = source.state
    halves: list[int] = [state["uinteger"]] if state["has_uint32"] else []  # of words, the next one last
    words = 0

    def below(bound: int) -> int:
        nonlocal words
        if bound == 1:
            return 0
        while True:
            if not halves:
                halves.extend(source.random_raw(_BLOCK).astype("<u8").view("<u4")[::-1].tolist())
                words += _BLOCK
            product = halves.pop() * bound
            rest = product & 0xFFFFFFFF
            if rest >= bound or rest >= (0x100000000 - bound) % bound:
                return product >> 32

    try:
        yield below
    finally:
        source.state = state
        source.advance(words - len(halves) // 2)
        left = source.state
        left["has_uint32"], left["uinteger"] = len(halves) % 2, halves[-1] if len(halves) % 2 else 0
        source.state = left
