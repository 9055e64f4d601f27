"""What the first evaluated genotype of a search is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcnas.analysis.first_architecture import called
from hpcnas.evolution.individuals import Birth
from hpcnas.retrain.record import Origin

DRAWN = Origin("run:0", "hierarchical", "a" * 32, 0, "tournament", 0.9, 0, 7000, False, None, "", Birth.INITIAL)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (DRAWN, "one random architecture"),
        (replace(DRAWN, space="flat", strategy="random", birth=Birth.RANDOM), "one random architecture"),
        (replace(DRAWN, departures="initial given, racing True, data digits"), "one random architecture"),
        (replace(DRAWN, departures="initial given", birth=Birth.GIVEN), "one given architecture"),
        (replace(DRAWN, birth=Birth.FOUNDER), "the first architecture of a merged run"),
        (replace(DRAWN, birth=Birth.MUTATION), "one mutated architecture"),
        (replace(DRAWN, max_parameters=300_000), "one architecture drawn with max_parameters 300000"),
        (replace(DRAWN, departures="max_flops 7"), "one architecture drawn with max_flops 7"),
        (
            replace(DRAWN, max_parameters=9, departures="initial_mutations 3, racing True"),
            "one architecture drawn with max_parameters 9, initial_mutations 3",
        ),
        (replace(DRAWN, space="2x3/1x3"), "one architecture drawn with space 2x3/1x3"),
        (replace(DRAWN, space="hierarchical:1x1,sep"), "one architecture drawn with space hierarchical:1x1,sep"),
        (replace(DRAWN, strategy="mine"), "one architecture drawn with strategy mine"),
        (replace(DRAWN, birth=None), "one random architecture"),
        (replace(DRAWN, birth=None, departures="initial given"), "the first architecture evaluated, initial given"),
        (replace(DRAWN, birth=None, departures="data x, merged"), "the first architecture evaluated, merged"),
        (replace(DRAWN, birth=None, departures=None), "the first architecture evaluated, settings unknown"),
    ],
)
def test_only_what_was_drawn_as_the_papers_is_one_random_architecture(origin: Origin, expected: str) -> None:
    assert called(origin) == expected
