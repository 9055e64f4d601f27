"""The columns of individuals: their order is that of every table that people have made so far."""

from __future__ import annotations

import examples
import pytest

from hpcnas.architecture.genotype import Genotype
from hpcnas.evolution.individuals import BIRTH_COLUMNS, COLUMNS, Birth, Individual


def test_the_order_of_columns_is_what_it_always_was() -> None:
    assert [column.name for column in COLUMNS[: len(BIRTH_COLUMNS)]] == [
        *("birth", "parent", "view", "redrawn", "known", "network", "network_version", "repeats", "genotype", "born")
    ]


def test_the_journal_has_them_in_the_order_in_which_a_birth_is_told() -> None:
    assert [column.name for column in BIRTH_COLUMNS] == [
        *("genotype", "birth", "parent", "view", "redrawn", "born", "known", "network", "network_version", "repeats")
    ]


def test_what_an_individual_may_lack_is_given_by_name() -> None:
    fixed = (0, Genotype(examples.SPACE, b"\1" * 9), Birth.INITIAL, None, 0, 0, 1000.0)
    assert Individual(*fixed, known=2).known == 2
    with pytest.raises(TypeError):
        Individual(*fixed, 2)  # type: ignore[misc]
