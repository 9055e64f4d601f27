"""--dry-run of a retraining: everything that a person would want to know before the cluster is asked, in words."""

from __future__ import annotations

from typing import Any

from hpcnas import genotype, retraindryrun
from hpcnas.jobenv import Binding, Seat
from hpcnas.recipe import SCHEME, Recipe
from hpcnas.retrainfile import Origin

CPU = Seat("node-1", (), frozenset({0, 1}), 2)


def recipe(preset: str, **settings: Any) -> Recipe:
    return SCHEME.build(SCHEME.preset(preset), settings)


def parts(settings: Recipe, *bindings: Binding) -> dict[str, list[str]]:
    """Lines by the title that they stand under."""
    origin, ranks = Origin("paper", "hierarchical"), bindings or (Binding(None, 2),)
    text = retraindryrun.text(settings, genotype.named("paper"), origin, [CPU] * len(ranks), ranks)
    _, *others = text.split("\n# ")
    return {title: lines.strip().splitlines() for title, _, lines in (one.partition("\n") for one in others)}


def test_the_papers_large_network() -> None:
    found = parts(recipe("cifar-large"))
    assert found["network"] == [
        "genotype paper, space hierarchical",
        "images of 32×32, 3 channels, 10 classes (CIFAR-10); trained on 24×24",
        "15,727,306 parameters, 4.61 GFLOPs a test image",
    ]
    assert found["training"] == [
        "1 × 80,000 steps of 256 images, 8 micro-batches of 32 a step",
        "learning rate 0.1, divided by 10 after 40,000, 60,000, 70,000 steps",
    ]


def test_it_begins_with_the_recipe_that_can_be_given_back() -> None:
    settings = recipe("quick")
    text = retraindryrun.text(settings, genotype.named("paper"), Origin("paper", "hierarchical"), [], [])
    assert SCHEME.build(SCHEME.parse_toml(text.partition("# network")[0], "")[0]) == settings


def test_ranks_are_listed_with_what_they_are_bound_to() -> None:
    assert parts(recipe("cifar-large"), Binding("0", 2, "GPU-7"), Binding("1", 2), Binding(None, 1))["ranks"] == [
        "rank 0  node-1  cuda:GPU-7, 2 threads, 3 micro-batches a step",
        "rank 1  node-1  cuda:1, 2 threads, 3 micro-batches a step",
        "rank 2  node-1  cpu, 1 threads, 2 micro-batches a step",
    ]
