"""Quick draws of small integers: the same as numpy's, and nothing else of the generator changes."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnas.architecture.fast_integers import integers_below

BOUNDS = [1, 2, 3, 6, 7, 45, 3_000_000_000, 2**32 - 1]  # every third draw of the last but one is rejected


@pytest.mark.parametrize("before", [0, 1, 2])  # 1: half of a word is still to come
@pytest.mark.parametrize("count", [0, 1, 2, 3, 511, 512, 513, 5000])
def test_the_integers_are_numpys_and_so_is_what_follows(count: int, before: int) -> None:
    one, other = np.random.default_rng(7), np.random.default_rng(7)
    bounds = np.random.default_rng(count).choice(BOUNDS, size=count).tolist()
    for generator in (one, other):
        for _ in range(before):
            generator.integers(5)
    expected = [int(one.integers(bound)) for bound in bounds]
    with integers_below(other) as below:
        assert [below(bound) for bound in bounds] == expected
    assert other.integers(1000, size=9).tolist() == one.integers(1000, size=9).tolist()
    assert other.random() == one.random()


def test_another_kind_of_generator_is_refused() -> None:
    generator = np.random.Generator(np.random.MT19937(1))
    with pytest.raises(TypeError, match=r"^expected a generator of default_rng \(PCG64\), got MT19937$"):
        with integers_below(generator):
            pass
