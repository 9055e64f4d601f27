"""Known networks: what counts as known, how often a birth is drawn again, and that a search never forgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from examples import CONFIG, SPACE, failed, population
from test_strategy import Population, configured, evolution, grow, in_flight, individuals

from hpcnas.analysis import verification
from hpcnas.architecture.expansion import is_valid
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import mutate
from hpcnas.architecture.network_hash import network_hash
from hpcnas.config import search as search_config
from hpcnas.evolution import duplicates
from hpcnas.evolution.duplicates import DUPLICATES, MOST_KNOWN, Drawn, repeats, resample, retrain
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.registry import make_strategy
from hpcnas.search import run_file, simulation
from hpcnas.search.progress import final_table
from hpcnas.search.synthetic import FACTS
from hpcnas.seeds import birth_generator

# A cell 1-2 M1, 2-3 M1 in which M1 is a chain of two operations: 20 of them are different networks.
CELLS = [Genotype(SPACE, bytes([one, 0, other, 6, 0, 6, 1, 0, 1])) for one in range(1, 6) for other in range(1, 5)]
RENAMED = Genotype(SPACE, bytes([6, 0, 6, 1, 0, 1, 2, 0, 2]))  # CELLS[0], with its M1 called M2


def knowing(*genotypes: Genotype) -> Population:
    """A population of these, in flight, whose networks were looked at."""
    found = population()
    for id, genotype in enumerate(genotypes):
        found.add(Individual(id, genotype, Birth.INITIAL, None, 0, 0, 0.0, network=network_hash(genotype)))
    return found


def one_after_another(*genotypes: Genotype) -> Callable[[], Genotype]:
    return iter(genotypes).__next__


def test_a_known_network_is_drawn_again_however_it_is_written() -> None:
    draw = one_after_another(CELLS[1], RENAMED, Genotype(SPACE, bytes(9)), CELLS[2], CELLS[3])
    found = resample(draw, is_valid, knowing(*CELLS[:2]), 2)
    assert found == Drawn(CELLS[2], redrawn=1, known=2, network=network_hash(CELLS[2]))


def test_retraining_takes_what_is_drawn() -> None:
    draw = one_after_another(Genotype(SPACE, bytes(9)), RENAMED, CELLS[2])
    assert retrain(draw, is_valid, knowing(CELLS[0]), 1) == Drawn(RENAMED, redrawn=1, known=0, network=None)


def test_repeats_that_nobody_has_looked_at_are_counted_from_the_genotypes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = population()
    for id, genotype in enumerate([CELLS[0], RENAMED, CELLS[1], Genotype(SPACE, bytes(9)), CELLS[0]]):
        found.add(Individual(id, genotype, Birth.INITIAL, None, 0, 0, 0.0))
    assert (found.repeats, repeats(found)) == (0, 2)
    assert repeats(knowing(*CELLS[:3], RENAMED)) == 1
    assert "\n  known networks     0 drawn again, 2 evaluated again\n" in final_table(found)
    monkeypatch.setattr(duplicates, "MOST_COUNTED", 4)
    assert repeats(found) is None
    assert "0 drawn again, too many individuals to count (over 20,000)\n" in final_table(found)


def test_after_so_many_known_ones_the_next_is_taken() -> None:
    drawn = resample(one_after_another(*[CELLS[0]] * (MOST_KNOWN + 1)), is_valid, knowing(RENAMED), 1)
    assert drawn == Drawn(CELLS[0], redrawn=0, known=MOST_KNOWN, network=network_hash(RENAMED))


def test_known_are_the_networks_of_those_born_before_whatever_became_of_them() -> None:
    some = knowing(*CELLS[:3])
    some.settle(failed(1))
    for id, known in ((0, []), (1, [0]), (3, [0, 1, 2]), (9, [0, 1, 2])):
        assert [number for number in range(5) if some.knows(network_hash(CELLS[number]), id)] == known
    some.add(Individual(3, CELLS[3], Birth.INITIAL, None, 0, 0, 0.0, network=network_hash(CELLS[3])))
    some.add(Individual(4, RENAMED, Birth.INITIAL, None, 0, 0, 0.0, known=5, network=network_hash(RENAMED)))
    some.add(Individual(5, CELLS[9], Birth.INITIAL, None, 0, 0, 0.0))  # nobody has looked
    assert some.first_with(network_hash(CELLS[3])) == 3
    assert some.first_with(network_hash(RENAMED)) == 0
    assert some.first_with(network_hash(CELLS[9])) is None
    assert (some.repeats, some.known) == (1, 5)
    assert "\n  known networks     5 drawn again, 1 evaluated again\n" in final_table(some)


def test_a_hash_has_its_length() -> None:
    with pytest.raises(ValueError, match="^expected a hash of 16 bytes as network, got b'short'$"):
        knowing().add(Individual(0, CELLS[0], Birth.INITIAL, None, 0, 0, 0.0, network=b"short"))


# Searches


def resampling() -> object:
    return replace(evolution(), breeding=replace(evolution().breeding, duplicates=resample))


def test_a_search_that_resamples_meets_no_network_twice() -> None:
    plain, found = grow(evolution(), 60), grow(resampling(), 60)  # type: ignore[arg-type]
    networks = [network_hash(one.genotype) for one in individuals(found)]
    assert [one.network for one in individuals(found)] == networks
    assert len(set(networks)) == 60 and found.known > 10 and found.repeats == 0
    assert len({network_hash(one.genotype) for one in individuals(plain)}) < 55
    assert (plain.known, plain.repeats) == (0, 0)  # nobody has looked


def test_a_network_in_flight_is_known() -> None:
    strategy = resampling()
    some = grow(strategy, 10)  # type: ignore[arg-type]
    grow(strategy, 100, fate=in_flight, population=some)  # type: ignore[arg-type]
    assert some.in_flight == 100 and some.repeats == 0


def test_what_was_refused_was_drawn_from_the_births_own_stream() -> None:
    strategy = resampling()
    some = grow(strategy, 60)  # type: ignore[arg-type]
    (child,) = [one for one in individuals(some) if one.parent is not None and one.known == 2][:1]
    generator = birth_generator(1, child.id)
    generator.choice(child.view, size=max(2, round(0.2 * child.view)), replace=False, shuffle=False)
    parent = some.individual(child.parent).genotype  # type: ignore[arg-type]
    drawn = [mutate(parent, generator) for _ in range(30)]
    assert child.genotype in drawn


def test_every_setting_is_made() -> None:
    assert tuple(DUPLICATES) == search_config.DUPLICATES
    assert CONFIG.search.duplicates == "retrain" == search_config.build(search_config.preset("paper")).search.duplicates
    for name, way in DUPLICATES.items():
        strategy = make_strategy(configured(duplicates=name), FACTS)
        assert strategy.breeding.duplicates is way  # type: ignore[attr-defined]


def test_a_run_that_resamples_is_sound_and_a_planted_hash_is_found(tmp_path: Path) -> None:
    settings = search_config.build(
        {"search": {"budget": 60, "initial_population": 5, "initial_mutations": 20, "duplicates": "resample"}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_seconds": 10.0, "synthetic_spread": 0.5}},
    )
    simulation.simulate(settings, simulation.Site(7, 0.0, 0.0, 0.0), tmp_path / "run")
    run = run_file.read(tmp_path / "run")
    assert run.population.known > 10 and run.population.repeats == 0
    assert list(verification.faults(run)) == []
    networks = run.population._columns["network"]
    networks[30] = networks[7]
    (fault,) = verification.faults(run)
    assert str(fault) == (
        f"individual 30: expected network {network_hash(run.population.individual(30).genotype).hex()}, "
        f"got {network_hash(run.population.individual(7).genotype).hex()}"
    )
