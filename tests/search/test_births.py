"""A birth is one record: a field of Individual makes its column, its journal key and its place in the population."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from examples import SPACE, individual

from hpcnas.evolution.individuals import BIRTH_COLUMNS, COLUMNS, Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.evolution.strategy import Proposal
from hpcnas.search import records

PLAIN = individual(1)
FULL = replace(individual(1, 0, 3), birth=Birth.MUTATION, known=4, network=b"sixteen bytes ok", repeats=0)


def test_every_field_has_a_column_of_its_name() -> None:
    names = [item.name for item in fields(Individual)]
    assert names == ["id", *(column.name for column in BIRTH_COLUMNS)]
    assert set(COLUMNS[: len(BIRTH_COLUMNS)]) == set(BIRTH_COLUMNS)


@pytest.mark.parametrize("birth", [replace(PLAIN, network_version=1), FULL, replace(FULL, network_version=1)])
def test_the_journal_keeps_a_birth(birth: Individual) -> None:
    """Without a network its version says nothing."""
    some = Population(SPACE, replicates=2)
    some.add(individual(0))
    assert records.born(json.loads(json.dumps(records.birth(birth))), some) == birth


@pytest.mark.parametrize("birth", [PLAIN, FULL, replace(FULL, network_version=1)])
def test_the_population_keeps_a_birth(birth: Individual) -> None:
    some = Population(SPACE, replicates=2)
    some.add(individual(0))
    some.add(birth)
    assert some.individual(1) == birth


def test_what_is_not_known_is_null_or_left_out() -> None:
    written = records.birth(PLAIN)
    assert (written["parent"], written["network"]) == (None, None)
    assert not {"network_version", "repeats"} & set(written)


def test_a_field_that_was_added_may_be_missing_and_no_other() -> None:
    some = Population(SPACE, replicates=2)
    some.add(individual(0))
    written = records.birth(PLAIN)
    del written["known"], written["network"]
    assert records.born(written, some) == replace(PLAIN, network_version=1)
    del written["redrawn"]
    with pytest.raises(KeyError, match="redrawn"):
        records.born(written, some)


def test_a_proposal_becomes_an_individual_of_the_same_fields() -> None:
    asked = Proposal(FULL.genotype, FULL.birth, FULL.parent, FULL.redrawn, FULL.known, FULL.network, FULL.repeats)
    assert asked.born(1, FULL.view, FULL.born) == FULL
