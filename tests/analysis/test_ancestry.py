"""Ancestors of individuals in a run made by hand, their mutations and gains."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolruns import CHAIN, POOLING, SHORTCUT, UNUSED, eventful

from hpcnas.analysis import lineage
from hpcnas.analysis.figures.lineage import lineage_picture
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.space import Space
from hpcnas.search import run_file


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return eventful(tmp_path / "run")


def test_one_that_failed_has_ancestors_but_no_gain(run: Path) -> None:
    family = lineage.ancestry(run_file.read(run).population, 3)
    assert [one.id for one in family] == [0, 2, 3]
    assert (family[-1].fitness, family[-1].gain, family[-1].step) == (None, None, None)
    assert lineage.summary(family) == "2 mutations, 2 without a change of the network"


def test_what_differs() -> None:
    assert lineage.changes(CHAIN, CHAIN) == []
    assert lineage.changes(CHAIN, SHORTCUT) == ["cell 1-3: none → M2"]
    assert lineage.changes(POOLING, CHAIN) == ["cell 1-3: M2 → none", "M2 1-3: max → none"]
    assert lineage.changes(CHAIN, UNUSED) == ["M2 2-3: sep → 1x1"]
    deep = Space.parse("2x2/2x2/1x2")
    old, new = Genotype(deep, bytes([1, 1, 1, 1, 1])), Genotype(deep, bytes([1, 6, 1, 2, 2]))
    assert lineage.changes(old, new) == ["cell 1-2: M1 → M2", "level-3 M2 1-2: M1 → M2", "level-2 M2 1-2: 1x1 → id"]


def test_the_picture(run: Path) -> None:
    population = run_file.read(run).population
    tree, listing = lineage_picture(population, lineage.ancestry(population, 2)).axes
    everybody, line, filled, hollow = tree.get_lines()
    assert list(zip(*everybody.get_data(), strict=True)) == [(1, 0.5625), (2, 0.625), (3, 0.75), (4, 0.8125)]
    assert list(zip(*line.get_data(), strict=True)) == [(1, 0.5625), (2, 0.625)]
    assert (filled.get_label(), list(filled.get_xdata())) == ("the lineage", [1])
    assert (hollow.get_label(), list(hollow.get_xdata())) == ("same network as the parent", [2])
    words = [text.get_text() for text in listing.texts]
    assert words[-6:] == ["0", "at 56.25", "drawn at random", "1", "+6.25", "M2 2-3: sep → 1x1 (same network)"]


def test_a_picture_of_cousins_too(run: Path) -> None:
    population = run_file.read(run).population
    tree, _ = lineage_picture(population, lineage.ancestry(population, 0)).axes
    (others,) = [line for line in tree.get_lines() if line.get_label() == "their other children"]
    assert others.get_xdata()[:2].tolist() == [1, 2]  # from 0 to its child


def test_nothing_is_drawn_of_a_lineage_without_an_evaluation(run: Path) -> None:
    population = run_file.read(run).population
    failed = lineage.ancestry(population, 3)[-1:]
    with pytest.raises(AnalysisError, match="there is nothing to draw"):
        lineage_picture(population, failed)
